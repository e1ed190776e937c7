"""Partitions shared out by a consumer group: who owns which, what owners tell, and how they are asked.

`membership` and `worker` are the owner's side, `remote_owners` is the other; `questions` is what goes between them.
"""
