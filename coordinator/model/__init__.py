"""What things are: ids, targets, statuses and their transitions, filters, messages, limits, errors.

Everything here is a value or a pure function of values: no I/O, no clock, no randomness.
May be imported from anywhere; imports nothing else of `coordinator`.
"""
