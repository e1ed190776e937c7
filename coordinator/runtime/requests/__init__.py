"""The coordinator's roles: what drives the request machine and the registry of deployments over a log.

`port.py` is what surfaces ask, `known.py` the answers. `role.py` is the coordinator over the embedded log. On Kafka it
is `faust_role.py`, which writes the rows of `changelog.py`, and `replica.py` reads them.
"""
