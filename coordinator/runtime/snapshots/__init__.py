"""Snapshots of partitions: `making` one, `apart` in a process of its own, `recovery` from one, and the `keeper`
that has them made and trims the log.

Where they are kept is `stores.archive`, how a file is copied `stores.copies`.
"""
