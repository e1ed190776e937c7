"""Measurements of the running system, each beside a baseline that is measured in the same run.

`python -m bench` runs all of them. One module for each figure; what they share is `scale` (how much),
`workloads` (which records), `system` (one partition as the server runs it) and `bare` (the same row changes
without log and machine). May import everything of the project; nothing of the project imports it.
"""
