"""Rounds of every engine, each run in a process of its own: `python -m benchmarks.engine --help`"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.engine.engines import ENGINES
from benchmarks.engine.report import write_report
from benchmarks.engine.workload import SCENARIOS

ROOT = Path(__file__).resolve().parents[2]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine", description="What an experiment engine costs")
    parser.add_argument("--scenario", nargs="+", default=["noop"], choices=[*SCENARIOS, "resume"])
    parser.add_argument("--n", nargs="+", type=int, help="items (default: 10,000; resume: 100,000)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", help=f"of {', '.join(ENGINES)}")
    parser.add_argument(
        "--python",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="the interpreter that has this engine installed; peers=PATH for all other libraries",
    )
    parser.add_argument("--limit", type=float, default=900, help="seconds a run may take")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", help="folder of the report")
    parser.add_argument("--label", default="engine", help="name of the report's files")
    return parser.parse_args()


def interpreter(name: str, given: dict[str, str]) -> str:
    ours = name in ("reference", "pool", "us", "us-sync", "promptfoo")
    return sys.executable if ours else given.get(name.removesuffix("-untraced"), given.get("peers", sys.executable))


def call(action: str, name: str, scenario: str, n: int, folder: Path, given: dict[str, str], limit: float) -> dict:
    "The figures of one child process"
    kept, answer = folder / "kept", folder / "answer.json"
    kept.mkdir(exist_ok=True)
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "HOME": str(folder),
        "XDG_DATA_HOME": str(folder / "home"),
        "DO_NOT_TRACK": "1",
        "BENCHMARK_PROMPTFOO": given.get("promptfoo", ""),
    }
    words = [interpreter(name, given), "-m", "benchmarks.engine.measure", action, name, scenario, str(n)]
    try:
        child = subprocess.run([*words, str(kept), str(answer)], env=environment, timeout=limit, capture_output=True)
    except subprocess.TimeoutExpired:
        return {"skipped": f"not done within --limit {limit:.0f} s"}
    if not answer.exists():
        return {"skipped": f"ended with code {child.returncode}: {child.stderr.decode(errors='replace')[-300:]}"}
    figures = json.loads(answer.read_text())
    return figures | {"kept_bytes": sum(f.stat().st_size for f in kept.rglob("*") if f.is_file())}


def one_run(name: str, scenario: str, n: int, given: dict[str, str], limit: float) -> dict[str, Any]:
    folder, load = Path(tempfile.mkdtemp(prefix="benchmark-")), os.getloadavg()[0]
    try:
        if scenario == "resume":
            figures = call("half", name, "noop", n, folder, given, limit)
            if "skipped" not in figures:
                figures = call("resume", name, "noop", n, folder, given, limit)
        else:
            figures = call("run", name, scenario, n, folder, given, limit)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {"engine": name, "scenario": scenario, "n": n, "load": load, **figures}


def runs(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    "Every run of every round, as it is done; a round is the same work by every engine, one after the other"
    given = dict(pair.split("=", 1) for pair in options.python)
    wanted = options.only.split(",") if options.only else list(ENGINES)
    if unknown := set(wanted) - set(ENGINES):
        sys.exit(f"--only {', '.join(sorted(unknown))}: choose from {', '.join(ENGINES)}")
    skipped: set[str] = set()
    for scenario in options.scenario:
        for n in options.n or [100_000 if scenario == "resume" else SCENARIOS[scenario].n]:
            for i in range(options.rounds):
                for name in ["us"] if scenario == "resume" else wanted[i % len(wanted) :] + wanted[: i % len(wanted)]:
                    if name not in skipped:
                        run = one_run(name, scenario, min(n, ENGINES[name].at_most), given, options.limit)
                        if "skipped" in run:
                            skipped.add(name)
                        yield {"round": i, "asked_n": n, **run}


def line(run: dict[str, Any]) -> str:
    "One run for the terminal"
    head = f"{run['scenario']} round {run['round'] + 1}: {run['engine']}"
    if "skipped" in run:
        return f"{head} skipped: {run['skipped']}"
    if "first_s" in run:
        return f"{head} new work after {run['first_s']:.2f} s, done after {run['seconds']:.1f} s (n {run['n']:,}, load {run['load']:.1f})"
    lost = "" if run["done"] == run["n"] else f"; ONLY {run['done']} OF {run['n']} ARE THERE"
    return (
        f"{head} {run['n'] / run['seconds']:,.0f} items/s, CPU {run['cpu_s'] / run['n'] * 1e6:,.0f} µs an item, "
        f"peak {run['peak_mb']:.0f} MB (n {run['n']:,}, load {run['load']:.1f}){lost}"
    )


def main() -> None:
    options, done = arguments(), []
    for run in runs(options):
        done.append(run)
        print(line(run), flush=True)
    written = write_report(done, options.out, options.label, datetime.now(UTC))
    print("\n" + written.read_text())


if __name__ == "__main__":
    main()
