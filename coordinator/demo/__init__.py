"""`coordinator demo`: the main job on real data, from nothing, and an audit that trusts none of the system's counts.

`run` tells the story, `systems` is what it is done on, `multiply` makes the data, `traffic` is the process beside it,
`ledger` and `audit` find out from the log and the stores what happened, `report` shows it. May import everything else;
the command line starts it.
"""
