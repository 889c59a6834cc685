"""What an outcome check costs and how often it confirms a wrong outcome, on elections of which the truth is known

    python -m benchmarks.outcome [--elections 500] [--wrong 2000] [--country]

writes benchmarks/results/outcome.md; with --country also outcome_national.svg and the check of a national party list."""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from vote_experiments.analysis.figures import save_figure
from vote_experiments.analysis.wording import markdown_table
from vote_experiments.outcome.assertions import Contest
from vote_experiments.outcome.bounds import Batches, error_bounds
from vote_experiments.outcome.check import OutcomeCheck, start_outcome_check
from vote_experiments.outcome.national import national_margins, national_workload, plot_national
from vote_experiments.outcome.simulation import (
    METHODS,
    PLACEMENTS,
    ballots_used,
    excess_p_value,
    hide_errors,
    mean_forms,
    simulate_checks,
    simulated_election,
)

RESULTS = Path(__file__).with_name("results")
MARGINS = (0.02, 0.05, 0.1, 0.2)
SETTINGS = {"no errors": (0.0, 1.0), "3 % of the numbers misread": (0.03, 1.0), "no errors, bounds doubled": (0.0, 2.0)}


def workload(elections: int) -> pd.DataFrame:
    "Mean distinct forms by setting and method, a row each; 240 stations, 6 candidates, risk limit 5 %"
    rows = []
    for setting, (rate, ballots) in SETTINGS.items():
        for method in METHODS:
            forms = {f"{m:.0%}": f"{mean_forms(m, method, elections, rate, ballots):.1f}" for m in MARGINS}
            rows.append({"readings": setting, "method": method, **forms})
    return pd.DataFrame(rows)


def wrong_outcomes(elections: int) -> pd.DataFrame:
    "Share of wrong outcomes that are confirmed, a new constituency of 60 stations each time, by where the errors are"
    rows = []
    for placement in PLACEMENTS:
        confirmed = dict.fromkeys(METHODS, 0)
        for number in range(elections):
            rng = np.random.default_rng([number, 7])
            votes = simulated_election(rng, rng.choice(MARGINS), 60, 4)
            batches = Batches(votes.astype(float), ballots_used(votes))
            assertions = Contest().assertions("abcd", batches.totals)
            hidden = hide_errors(assertions, batches, placement, rng)
            for method in METHODS:
                confirmed[method] += simulate_checks(assertions, batches, hidden, method, 0.05, 1, number).confirmed[0]
        cells = {
            m: f"{n / elections:.1%} (p = {excess_p_value(int(n), elections, 0.05):.2f})" for m, n in confirmed.items()
        }
        rows.append({"errors": placement, **cells})
    return pd.DataFrame(rows)


def country() -> str:
    "All 400 constituencies with the margins of 14 May 2023"
    work = national_workload(national_margins())
    save_figure(plot_national(work), RESULTS / "outcome_national.svg")
    forms = work["simulated"].sum()
    every = (work["simulated"] >= work["stations"]).sum()
    return (
        f"All 400 constituencies with the margins of 14 May 2023, 2 % of the numbers misread: {forms:,.0f} of "
        f"{work['stations'].sum():,} forms, {forms * 2 / 60:,.0f} person-hours at two minutes a form (on paper, without errors: "
        f"{work['expected'].sum():,.0f} forms). Half of the forms are in the {_half(work)} closest constituencies; in {every} every form is "
        "read.\n\n![Forms to read in each of 400 constituencies by the winner's margin](outcome_national.svg)"
    )


def _half(work: pd.DataFrame) -> int:
    "How many of the closest constituencies need half of all forms"
    added = work.sort_values("margin")["simulated"].cumsum()
    return int((added < added.iloc[-1] / 2).sum()) + 1


def party_list(stations: int = 95_000, parties: int = 60) -> str:
    "Seconds and memory of a check of a national party list"
    rng = np.random.default_rng(0)
    shares = 0.8 ** np.arange(parties)
    sizes = np.maximum(20, rng.lognormal(np.log(400), 0.3, stations)).astype(int)
    votes = rng.multinomial(sizes, shares / shares.sum())
    table = pd.DataFrame(
        {
            "station": np.repeat([f"หน่วย {i:05}" for i in range(stations)], parties),
            "choice": np.tile([f"{j + 1}" for j in range(parties)], stations),
            "votes": votes.ravel(),
            "ballots": np.repeat(np.round(sizes * 1.1).astype(int), parties),
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        store, seconds, before = f"{folder}/check.db", {}, time.perf_counter()

        def lap(name: str) -> None:
            nonlocal before
            seconds[name] = time.perf_counter() - before
            before = time.perf_counter()

        check = start_outcome_check(table, "party list", seed="27182818284590452353", store=store)
        lap("start")
        check.status()
        lap("first status")
        station = check.next(1, reader="A")[0]
        lap("next")
        seen = check.frame.votes[check.frame.stations.index(station)]
        check.record(station, dict(zip(check.frame.choices, map(int, seen))), reader="A")
        lap("record")
        _ = OutcomeCheck.resume(check.id, store).state
        lap("resume in another process")
        pairs, bounds = len(check.assertions()), error_bounds(check._now().base.assertions, check.frame.batches)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    laps = ", ".join(f"{name} {s:.1f} s" for name, s in seconds.items())
    return (
        f"A party list of {stations:,} stations, {parties} parties and 100 seats has {pairs:,} assertions and U = {bounds.total:,.0f}: {laps}; "
        f"{peak:.1f} GB at most, the table of {len(table):,} rows included. One measurement on two cores that other work used too."
    )


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--elections", type=int, default=500)
    words.add_argument("--wrong", type=int, default=2000)
    words.add_argument("--country", action="store_true")
    given = words.parse_args()
    parts = [
        "# Outcome checks: forms to read, and wrong outcomes confirmed",
        f"`python -m benchmarks.outcome --elections {given.elections} --wrong {given.wrong}{' --country' if given.country else ''}`",
        f"Mean number of distinct forms of {given.elections} elections, by the winner's margin: 240 stations, 6 candidates, risk limit 5 %. "
        "`betting` is the default.",
        markdown_table(workload(given.elections)),
        f"Wrong outcomes confirmed among {given.wrong:,}, risk limit 5 %, by an adversary who knows the readings and not the seed; p is the "
        "probability of so many or more at exactly 5 %.",
        markdown_table(wrong_outcomes(given.wrong)),
    ]
    if given.country:
        parts += [country(), party_list()]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "outcome.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    print("\n\n".join(parts))


if __name__ == "__main__":
    main()
