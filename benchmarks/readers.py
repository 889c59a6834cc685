"""How well and how fast the offline readers read synthetic form sets, on one core, by reader, level and options.

    taskset -c 0 python benchmarks/readers.py --seed 0 --sets 30                 every reader, level scan and poor, plain and hard
    taskset -c 0 python benchmarks/readers.py --readers ocr-fused --levels scan --options plain --seed 100000 --sets 100

Seeds below 1000 were used while the readers were developed. Writes the mean of each score with its 95 % interval to --out
and prints it; the scores of every form set go to --scores, the differences between readers, paired by form set, to
--pairs. Seconds are processor time of this process per page, loading included, drawing left out; `load` is the mean load
of the machine meanwhile: other work on the same cores makes a page cost more.
"""

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import pandas as pd

from vote_experiments.analysis.comparison import compare
from vote_experiments.analysis.intervals import mean_interval
from vote_experiments.ocr.reading import READERS, read_form_set
from vote_experiments.ocr.sheets import seconds_saved
from vote_experiments.synthesis.drawn import form_set
from vote_experiments.scoring.evaluators import ballot_accuracy_score, exact_form_match, name_cer, vote_results_quality

SCORES = {
    "vote_results_quality": vote_results_quality,
    "ballot_accuracy_score": ballot_accuracy_score,
    "exact_form_match": exact_form_match,
}
COMPARED = ("vote_results_quality", "ballot_accuracy_score", "names")


def results(readers: list[str], levels: list[str], options: list[str], seed: int, sets: int) -> Iterator[dict]:
    "One row for each form set and reader"
    with tempfile.TemporaryDirectory() as folder:
        for level in levels:
            for option in options:
                for s in range(seed, seed + sets):
                    drawn, paths = form_set(s, level=level, options=option), []
                    for i, page in enumerate(drawn.pages):
                        paths.append(Path(folder, f"{i}.jpg"))
                        paths[-1].write_bytes(page)
                    truth = drawn.record["ground_truth"]
                    for reader in readers:
                        start, saved = time.process_time(), seconds_saved()
                        read = read_form_set(paths, reader, drawn.record["metadata"]["candidates"], roots=[folder])
                        spent = time.process_time() - start + seconds_saved() - saved
                        yield {
                            "options": option,
                            "level": level,
                            "reader": reader,
                            "seed": s,
                            "pages": len(paths),
                            "seconds": round(spent, 3),
                            "load": round(os.getloadavg()[0], 2),
                            **{k: round(float(f(None, read, truth)), 5) for k, f in SCORES.items()},
                            "names": round(1 - min(1.0, name_cer(None, read, truth)), 5),
                        }


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    "Means with intervals by reader, level and options"

    def line(g: pd.DataFrame) -> pd.Series:
        shares = {k: mean_interval(g[k]).percent() for k in (*SCORES, "names")}
        seeds = f"{g['seed'].min()}-{g['seed'].max()}"
        return pd.Series(
            {
                **shares,
                "form sets": len(g),
                "seeds": seeds,
                "pages": g["pages"].sum(),
                "s/page": round(g["seconds"].sum() / g["pages"].sum(), 3),
                "load": round(g["load"].mean(), 1),
            }
        )

    return rows.groupby(["options", "level", "reader"], sort=False)[list(rows.columns)].apply(line).reset_index()


def pairs(rows: pd.DataFrame) -> pd.DataFrame:
    "The differences between readers of the same form sets, by level and options"
    found = []
    for (option, level), group in rows.groupby(["options", "level"], sort=False):
        for score in COMPARED:
            compared = compare(group.pivot(index="seed", columns="reader", values=score)).pairs
            found += [
                {"options": option, "level": level, "score": score, **pair} for pair in compared.to_dict("records")
            ]
    return pd.DataFrame(found).round(4)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readers", nargs="+", default=list(READERS), choices=READERS)
    parser.add_argument("--levels", nargs="+", default=["scan", "poor"])
    parser.add_argument("--options", nargs="+", default=["plain", "hard"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sets", type=int, default=30)
    for name, what in (
        ("out", "the summary"),
        ("scores", "every form set's scores"),
        ("pairs", "the differences between readers"),
    ):
        parser.add_argument(f"--{name}", type=Path, default=None, help=f"CSV file of {what}")
    chosen = parser.parse_args()
    cv2.setNumThreads(1)
    rows = pd.DataFrame(results(chosen.readers, chosen.levels, chosen.options, chosen.seed, chosen.sets))
    table = summary(rows)
    if chosen.scores:
        rows.to_csv(chosen.scores, index=False)
    if chosen.pairs and len(chosen.readers) > 1:
        pairs(rows).to_csv(chosen.pairs, index=False)
    if chosen.out:
        table.to_csv(chosen.out, index=False)
    print(table.to_string(index=False))
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB")
