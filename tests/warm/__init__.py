"""Processes of Python, forked from one that has imported what they need: a tenth of the time of a fresh one.

Starting Python with torch, timm and ray is most of what a test of a job takes: 5 s of a core for each process. So tests
start their drivers, ranks and verbs by `processes.Popen` and `processes.run`; and the rays of test sessions, pretended
nodes, and, by `processes.variables`, of commands that tests start as others, take their workers, agents and monitors
from here. Those of an installed wheel start theirs as Ray does.
"""
