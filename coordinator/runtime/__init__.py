"""What drives the machines: the loop of a partition, worker processes, the server's composition, its queries.

May import the machines, `logs` and `stores`; is imported by `http` and `cli` only.
"""
