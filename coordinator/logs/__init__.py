"""The log: its port (`port`), one in an SQLite file (`embedded`), and that one from other processes (`remote`).

The rest of the project imports `port`; an adapter is named only where a process is put together. Nothing in here
imports anything of the project but `coordinator.model.limits`.
"""
