"""Where a partition keeps its state: the port, the SQLite file and the in-memory model of it.

Adapters decide nothing; what they must do is in `port` and in the contract suite that runs over each.
May import `coordinator.model`; the machines see only `stores.port`.
"""
