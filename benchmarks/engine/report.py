"""The table and the picture of a benchmark"""

import json
import os
import platform
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.engine.engines import ENGINES
from benchmarks.engine.workload import SCENARIOS

Runs = list[dict[str, Any]]


def rate(run: dict[str, Any]) -> float:
    "Items a second"
    return run["n"] / run["seconds"]


def overhead_us(run: dict[str, Any]) -> float:
    "Microseconds an item beyond what the task itself takes"
    return (run["seconds"] - SCENARIOS[run["scenario"]].ideal_s(run["n"])) / run["n"] * 1e6


def ratios(runs: Runs, reference: Runs, figure: Callable[[dict[str, Any]], float]) -> list[float]:
    "A figure over the reference's in the same round"
    of_round = {r["round"]: figure(r) for r in reference}
    return [figure(r) / of_round[r["round"]] for r in runs if r["round"] in of_round]


def spread(values: Iterable[float], form: str = ",.0f") -> str:
    "median (smallest–largest)"
    known = sorted(values)
    if not known:
        return "–"
    return format(median(known), form) + (f" ({known[0]:{form}}–{known[-1]:{form}})" if len(known) > 1 else "")


def table(rows: list[list[str]]) -> str:
    head, *body = rows
    return "\n".join("| " + " | ".join(r) + " |" for r in [head, ["---"] * len(head), *body]) + "\n"


def _row(name: str, its: Runs, reference: Runs, ideal_s: Callable[[int], float]) -> list[str]:
    first = its[0]
    kept = median(r["kept_bytes"] for r in its) / first["n"]
    sent = f", sent {median(r['sent_bytes'] for r in its) / first['n']:,.0f}" if first["sent_bytes"] else ""
    lost = [r for r in its if r["done"] != r["n"]]
    efficiency = [spread([100 * ideal_s(r["n"]) / r["seconds"] for r in its], ".1f")] if ideal_s(1) else []
    return [
        f"**{name}**" if name.startswith("us") else name,
        f"{first['n']:,}",
        spread(map(rate, its)),
        spread(ratios(its, reference, rate), ".3f"),
        *efficiency,
        spread(map(overhead_us, its)),
        spread(r["cpu_s"] / r["n"] * 1e6 for r in its),
        spread(ratios(its, reference, lambda r: r["cpu_s"] / r["n"]), ".1f"),
        f"{median(r['peak_mb'] for r in its):,.0f} (+{median(r['peak_mb'] - r['before_mb'] for r in its):,.0f})",
        f"{kept:,.0f}{sent}",
        ENGINES[name].keeps,
        f"{lost[0]['done']:,} of {lost[0]['n']:,}" if lost else "all",
    ]


def scenario_section(runs: Runs, scenario: str, n: int) -> str:
    its = [r for r in runs if r["scenario"] == scenario and r["asked_n"] == n and "skipped" not in r]
    reference = [r for r in its if r["engine"] == "reference"]
    ideal_s = SCENARIOS[scenario].ideal_s
    head = [
        "engine",
        "n",
        "items/s",
        "of the reference",
        *(["% of ideal"] if ideal_s(1) else []),
        "overhead µs/item",
        "CPU µs/item",
        "CPU of the reference",
        "peak MB (of the run)",
        "bytes/item kept",
        "keeps",
        "items there",
    ]
    names = sorted({r["engine"] for r in its}, key=lambda e: -median(rate(r) for r in its if r["engine"] == e))
    rows = [_row(name, [r for r in its if r["engine"] == name], reference, ideal_s) for name in names]
    return f"## {SCENARIOS[scenario].says}, {n:,} items\n\n{table([head, *rows])}"


def memory_section(runs: Runs) -> str:
    "Peak memory by number of items, where more than one number was measured"
    its = [r for r in runs if r["scenario"] == "noop" and "skipped" not in r]
    sizes = sorted({r["n"] for r in its})
    if len(sizes) < 2:
        return ""
    peak = lambda e, n: [r["peak_mb"] for r in its if r["engine"] == e and r["n"] == n]
    rows = [["engine", *(f"{n:,} items: peak MB" for n in sizes), "largest above smallest, MB"]]
    for name in ENGINES:
        known = {n: median(peak(name, n)) for n in sizes if peak(name, n)}
        if len(known) > 1:
            rise = known[max(known)] - known[min(known)]
            rows.append([name, *(f"{known[n]:,.0f}" if n in known else "–" for n in sizes), f"{rise:,.0f}"])
    return f"## Memory\n\nThe list of the items itself is part of it.\n\n{table(rows)}"


def resume_section(runs: Runs) -> str:
    its = [r for r in runs if r["scenario"] == "resume" and "skipped" not in r]
    if not its:
        return ""
    return "## Resuming a half-done run\n\n" + table(
        [
            ["items", "seconds until new work starts", "seconds until all is done"],
            [
                f"{its[0]['n']:,}",
                spread((r["first_s"] for r in its), ".2f"),
                spread((r["seconds"] for r in its), ".1f"),
            ],
        ]
    )


def skipped_section(runs: Runs) -> str:
    lines = [f"- {r['engine']}: {r['skipped']}" for r in runs if "skipped" in r]
    return "## Skipped\n\n" + "\n".join(dict.fromkeys(lines)) + "\n" if lines else ""


def write_report(
    runs: Runs,
    folder: Path,
    label: str,
    moment: datetime,
) -> Path:  # the Markdown file; next to it the raw figures and the picture
    "Write what was measured"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{label}.json").write_text(json.dumps(runs, indent=1) + "\n")
    loads = [r["load"] for r in runs]
    versions = sorted({f"{ENGINES[r['engine']].package} {r['version']}" for r in runs if r.get("version")})
    scenarios = dict.fromkeys((r["scenario"], r["asked_n"]) for r in runs if r["scenario"] != "resume")
    picture = draw(runs, folder / f"{label}.svg")
    parts = [
        f"# Engine benchmark\n\n{moment:%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"load {min(loads):.1f}–{max(loads):.1f} while measuring, {max(r['round'] for r in runs) + 1} rounds. Figures are "
        "median (smallest–largest); ratios are to the reference loop in the same round.\n\n"
        + ", ".join(versions)
        + "\n",
        f"![items a second and memory]({picture.name})\n" if picture else "",
        *(scenario_section(runs, *key) for key in scenarios),
        memory_section(runs),
        resume_section(runs),
        skipped_section(runs),
    ]
    path = folder / f"{label}.md"
    path.write_text("\n".join(p for p in parts if p))
    return path


def draw(runs: Runs, path: Path) -> Path | None:  # None: nothing to draw
    "Items a second with their range, and the memory a run takes, one bar an engine"
    its = [r for r in runs if r["scenario"] == "noop" and "skipped" not in r]
    if not its:
        return None
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    n = max(r["asked_n"] for r in its if r["engine"] in ("us", its[0]["engine"]))
    its = [r for r in its if r["asked_n"] == n]
    of = lambda name, figure: [figure(r) for r in its if r["engine"] == name]
    names = sorted({r["engine"] for r in its}, key=lambda e: median(of(e, rate)))
    colours = [
        "#c44e52" if e.startswith("us") else "#8c8c8c" if e in ("reference", "pool") else "#4c72b0" for e in names
    ]
    figure = Figure(figsize=(10, 0.4 * len(names) + 1.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    middle = [median(of(e, rate)) for e in names]
    around = [
        [m - min(of(e, rate)) for e, m in zip(names, middle)],
        [max(of(e, rate)) - m for e, m in zip(names, middle)],
    ]
    left.barh(names, middle, color=colours, xerr=around, error_kw={"lw": 1})
    left.set(xscale="log", xlabel="items a second (median, smallest to largest)")
    memory = [median(of(e, lambda r: max(0.1, r["peak_mb"] - r["before_mb"]))) for e in names]
    right.barh(names, memory, color=colours)
    right.set(xscale="log", xlabel="MB taken by the run")
    figure.suptitle(f"{n:,} items, a task that answers at once, two evaluators")
    FigureCanvasSVG(figure).print_svg(path, metadata={"Date": None})
    return path
