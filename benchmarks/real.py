"""How well models read real form sets whose truth is known, by form, province and kind of image.

    python benchmarks/real.py --data FOLDER                         all offline readers
    python benchmarks/real.py --data FOLDER --model ocr-sums --json
    python benchmarks/real.py --data FOLDER/truth_dev.json --model ocr-fused --errors

FOLDER holds one truth file (JSON with `records`, each with `input.image_paths`, `expected_output` and `metadata`) and
the pages that it names. Nothing is written there, and no page leaves this program. Constituency and party list are
apart everywhere. Intervals are 95 %, clustered by form set. Seconds are processor time of this process.

`vote numbers`   written vote numbers read exactly            `total`     the written total read exactly
`ballot lines`   ballot and voter lines read exactly          `blank`     rows rightly called blank or written
`sets`           form sets with every row of votes right      `rows`      form sets whose table has exactly the truth's rows
`sure`           right among numbers with confidence >= 0.9   `covered`   vote numbers with confidence >= 0.9
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from vote_experiments.analysis.intervals import mean_interval
from vote_experiments.models.registry import get_model
from vote_experiments.ocr.sheets import seconds_saved
from vote_experiments.settings import OFFLINE_MODELS

SURE = 0.9
FIGURES = ("vote numbers", "total", "ballot lines", "blank", "sets", "rows", "sure", "covered")
SECTIONS = ("voter_statistics", "ballot_statistics")


def truth_file(data: Path) -> Path:
    "The truth file of a folder, or the file itself. Raises `SystemExit` when there is not exactly one."
    if data.is_file():
        return data
    files = sorted(data.glob("truth*.json")) or sorted(data.glob("*.json"))
    if len(files) != 1:
        raise SystemExit(f"--data {data}: name the truth file; {len(files)} JSON files are there")
    return files[0]


def records(path: Path) -> list[dict[str, Any]]:
    "The form sets of a truth file"
    content = json.loads(path.read_text())
    return content["records"] if isinstance(content, dict) else content


def matching(output: Mapping[str, Any], truth: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, float]]:
    "The report of an output that is meant by the truth, and its confidences; both empty when there is none"
    reports = output.get("reports") or []
    wanted = truth["form_info"]["form_type"]
    same = [i for i, r in enumerate(reports) if (r.get("form_info") or {}).get("form_type") == wanted]
    if not same:
        return {}, {}
    confidence = output.get("confidence") or [{}] * len(reports)
    return reports[same[0]], confidence[same[0]]


def judged_rows(
    read: Mapping[str, Any], truth: Mapping[str, Any], confidence: Mapping[str, float]
) -> Iterator[tuple[str, bool]]:
    "Figure and whether it is right, row by row"
    votes = {row["number"]: row["vote_count"] for row in read.get("vote_results") or []}
    whole = True
    for row in truth["vote_results"]:
        number, written = row["number"], row["vote_count"]
        value = votes.get(number)
        whole = whole and value == written
        yield "blank", number in votes and (value is None) == (written is None)
        if written is not None:
            sure = value is not None and confidence.get(f"vote_results[number={number}].vote_count", 0.0) >= SURE
            yield "vote numbers", value == written
            yield "covered", sure
            if sure:
                yield "sure", value == written
    yield "sets", whole
    yield "rows", sorted(votes) == sorted(row["number"] for row in truth["vote_results"])


def judged(
    read: Mapping[str, Any], truth: Mapping[str, Any], confidence: Mapping[str, float]
) -> Iterator[tuple[str, bool]]:
    "Figure and whether it is right, number by number"
    yield from judged_rows(read, truth, confidence)
    if truth.get("total_votes_recorded") is not None:
        yield "total", read.get("total_votes_recorded") == truth["total_votes_recorded"]
    for section in SECTIONS:
        for name, value in (truth.get(section) or {}).items():
            if isinstance(value, int):
                yield "ballot lines", (read.get(section) or {}).get(name) == value


def errors(read: Mapping[str, Any], truth: Mapping[str, Any], confidence: Mapping[str, float]) -> list[str]:
    "What was read wrongly, one short text each"
    votes = {row["number"]: row["vote_count"] for row in read.get("vote_results") or []}
    wrong = []
    for row in truth["vote_results"]:
        number, written = row["number"], row["vote_count"]
        if votes.get(number) != written:
            sure = confidence.get(f"vote_results[number={number}].vote_count", 0.0)
            wrong.append(f"row {number}: {written} read {votes.get(number)} ({sure:.2f})")
    for section in SECTIONS:
        wrong += [
            f"{name}: {value} read {(read.get(section) or {}).get(name)}"
            for name, value in (truth.get(section) or {}).items()
            if isinstance(value, int) and (read.get(section) or {}).get(name) != value
        ]
    return wrong


def measured(model: str, items: Sequence[Mapping[str, Any]], folder: Path) -> Iterator[dict[str, Any]]:
    "One line per figure and number"
    reader = get_model(model)
    for item in items:
        truth, about = item["expected_output"], item.get("metadata") or {}
        paths = [str(folder / p) for p in item["input"]["image_paths"]]
        start, saved, problem = time.process_time(), seconds_saved(), None
        try:
            output = reader.extract(paths, {"model": model, "roots": [str(folder)]}).output or {}
        except ValueError as e:
            output, problem = {}, str(e)
        seconds = time.process_time() - start + seconds_saved() - saved  # as if no other reader had seen the pages
        read, confidence = matching(output, truth)
        line = {
            "model": model,
            "set": item["id"],
            "ballot": truth["form_info"]["form_type"],
            "code": about.get("form_code"),
            "province": truth["form_info"].get("province"),
            "image": about.get("scan"),
        }
        yield {
            **line,
            "figure": "seconds",
            "value": seconds / len(paths),
            "errors": problem or "; ".join(errors(read, truth, confidence)),
        }
        for figure, right in judged(read, truth, confidence):
            yield {**line, "figure": figure, "value": float(right)}


def table(lines: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    "Each figure with its interval, by some columns"
    rows = []
    for key, group in lines.groupby(list(by), dropna=False, sort=False):
        row = dict(zip(by, key)) | {"form sets": group["set"].nunique()}
        for figure in FIGURES:
            part = group[group["figure"] == figure]
            row[figure] = mean_interval(part["value"], clusters=part["set"]).percent() if len(part) else "–"
        row["s/page"] = round(float(group.loc[group["figure"] == "seconds", "value"].mean()), 2)
        rows.append(row)
    return pd.DataFrame(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with a truth file and its pages, or the truth file"
    )
    parser.add_argument(
        "--model", action="append", help="a registered model; may be repeated; default: all offline readers"
    )
    parser.add_argument("--sets", nargs="*", help="only these form sets")
    parser.add_argument("--json", action="store_true", help="print every table as JSON")
    parser.add_argument("--errors", action="store_true", help="also list what was read wrongly")
    chosen = parser.parse_args(arguments)
    path = truth_file(chosen.data)
    items = [i for i in records(path) if not chosen.sets or i["id"] in chosen.sets]
    if not items:
        raise SystemExit(f"{path}: none of the form sets {chosen.sets} is there")
    lines = pd.DataFrame([x for m in chosen.model or OFFLINE_MODELS for x in measured(m, items, path.parent)])
    tables = {
        "all": table(lines, ["model", "ballot"]),
        **{c: table(lines, ["model", "ballot", c]) for c in ("code", "province", "image")},
    }
    if chosen.json:
        print(json.dumps({k: t.to_dict("records") for k, t in tables.items()}, ensure_ascii=False, indent=1))
    else:
        for name, t in tables.items():
            print(f"\n{name}\n{t.to_string(index=False)}")
    if chosen.errors:
        for line in lines[lines["figure"] == "seconds"].itertuples():
            print(f"{line.model} {line.set}: {line.errors or 'all right'}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
