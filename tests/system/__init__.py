"""The real server process, over real HTTP and the real command line: what only the whole of it can show.

`server` starts and ends it, `rows` makes what it is given, `evidence` reads what it has left on disk. `kafka` and
`cluster` are the same for a system of several processes; `load` is its clients, and `oracle` and `log_oracle` judge
what has become of what those were promised.
May import everything; nothing imports it.
"""
