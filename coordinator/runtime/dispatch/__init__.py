"""Carrying deliveries to the participants that are connected, and their reports to the partitions.

`core` decides what goes to whom and does no I/O; `dispatcher` drives it in the server's event loop; `feed` reads
deliveries; `reports` reads what participants say. `dispatcher.Dispatcher` is what others use.
"""
