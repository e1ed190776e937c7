"""The stores: what the SQLite file does beyond the contract, and the reader beside it."""
