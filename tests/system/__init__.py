"""The real server process, over real HTTP and the real command line: what only the whole of it can show.

`server` starts and ends it, `rows` makes what it is given, `evidence` reads what it has left on disk.
May import everything; nothing imports it.
"""
