"""A process that reads forms of an outcome check until it is killed: `python record_outcome.py STORE CHECK READER [paced]`; used by tests.

With `paced` it waits for a line on standard input before each two forms, so that a test decides who reads when."""

import json
import sys

from vote_experiments.outcome.check import OutcomeCheck

check = OutcomeCheck.resume(sys.argv[2], sys.argv[1])
truth = {s: dict(zip(check.frame.choices, map(int, v))) for s, v in zip(check.frame.stations, check.frame.votes)}
while True:
    if sys.argv[4:] and not sys.stdin.readline():
        break
    stations = check.next(2, reader=sys.argv[3])
    if not stations and not sys.argv[4:]:
        break
    for station in stations:
        risk = check.record(station, truth[station], reader=sys.argv[3])
        print(json.dumps([str(station), risk]), flush=True)
    if sys.argv[4:]:
        print(json.dumps(None), flush=True)
