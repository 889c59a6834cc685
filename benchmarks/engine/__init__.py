"""
What an experiment engine costs, side by side: `python -m benchmarks.engine`

Every engine gets the same items, the same task and the same two evaluators, in a process of its own. The yardstick is
a bare asyncio loop that stores one row an item in SQLite; every figure is also given as a ratio to that loop in the
same round, because a machine is never equally busy twice.

workload.py    what every engine is given
reference.py   the yardstick, and the same with a fixed pool of workers
ours.py        run_experiment, and resuming it
peers.py       the other libraries, one small adapter each
loopback.py    a server that takes everything and keeps nothing, for libraries that only send
measure.py     one engine in this process: time, CPU, memory, bytes kept
__main__.py    rounds of all of them
report.py      the table and the picture
"""
