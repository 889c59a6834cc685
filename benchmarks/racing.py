"""Races in simulated worlds of which the truth is known: do they keep their promise, and what do they save?

    python -m benchmarks.racing [SEEDS]

The table of 20 seeds is published in nbs/analysis/15_racing.ipynb."""

import sys

import pandas as pd

from vote_experiments.analysis.wording import markdown_table
from vote_experiments.analysis.racing import SCENARIOS, simulate_race


def main(seeds: int) -> None:
    rows = []
    for name in SCENARIOS:
        c = simulate_race(name, seeds)
        rows.append(
            {
                "scenario": name,
                "same as the full run, %": f"{100 * c.same:.1f}",
                "a best one dropped, %": f"{100 * c.best_dropped:.1f}",
                "a single winner named, %": f"{100 * c.single:.1f}",
                "wrongly, %": f"{100 * c.wrong_single:.1f}",
                "calls, %": f"{100 * c.calls:.0f}",
                "95th percentile": f"{100 * c.calls_95:.0f}",
            }
        )
    print(markdown_table(pd.DataFrame(rows)))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
