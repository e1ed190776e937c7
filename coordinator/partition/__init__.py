"""The partition machine: what one record makes of one partition's state, and nothing else.

Start at `machine`; one module per concern beside it. Pure: no clock, no randomness, no I/O but the store it
was handed. May import `coordinator.model` and `coordinator.stores.port`.
"""
