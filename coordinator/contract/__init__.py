"""The wire contract for other languages, generated from the message types by `make schemas`.

`artifacts` says which files there are, `streams` who may write and read what; the rest renders them.
May import `model`, `requests` and the log's port; nothing of the project imports it.
"""
