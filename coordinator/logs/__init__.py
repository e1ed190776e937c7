"""The log: its port (`port`), in an SQLite file (`embedded`, from other processes `remote`), and on Kafka (`kafka`).

The rest of the project imports `port`; an adapter is named only where a process is put together. Nothing in here
imports anything of the project but `coordinator.model.limits`.
"""
