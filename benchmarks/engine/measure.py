"""
One engine in this process: seconds, CPU, memory

    python -m benchmarks.engine.measure run us noop 10000 FOLDER ANSWER.json
    python -m benchmarks.engine.measure half us noop 100000 FOLDER ANSWER.json, then the same with resume

`FOLDER` is where the engine keeps things, and the working directory; the figures are written to `ANSWER.json`.
"""

import json
import os
import resource
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.engine import ours
from benchmarks.engine.engines import ENGINES
from benchmarks.engine.workload import SCENARIOS, Work

WARM_UP = 20  # items run before, so that late imports and first calls are not counted


def memory_mb(peak: bool) -> float:
    "Resident memory of this process, now or at its highest"
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss would include what the parent had before exec
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM:" if peak else "VmRSS:"))
        return int(line.split()[1]) / 1024
    top = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return top / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def cpu_s() -> float:
    "CPU seconds of this process, its threads and those of its children that have ended"
    return sum(
        u.ru_utime + u.ru_stime for u in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def measure(name: str, scenario: str, n: int, folder: Path) -> dict[str, Any]:
    engine = ENGINES[name]
    with engine.prepare(folder) as run:
        run(Work(SCENARIOS["noop"], WARM_UP))
        before_mb, before_cpu, started = memory_mb(peak=False), cpu_s(), time.perf_counter()
        done = run(Work(SCENARIOS[scenario], n))
        seconds, cpu = time.perf_counter() - started, cpu_s() - before_cpu
    return {
        "seconds": seconds,
        "cpu_s": cpu,
        "peak_mb": memory_mb(peak=True),
        "before_mb": before_mb,
        "done": done.n,
        "sent_bytes": done.sent_bytes,
        "version": metadata.version(engine.package) if engine.package else None,
    }


def main() -> None:
    action, name, scenario, n, folder, answer = sys.argv[1:]
    os.chdir(folder)
    figures: dict[str, Any] = {}
    try:
        if action == "half":
            ours.do_half(Path(folder), int(n))
        elif action == "resume":
            figures["first_s"], figures["seconds"] = ours.resume(Path(folder), int(n))
        else:
            figures = measure(name, scenario, int(n), Path(folder))
    except ImportError as missing:
        figures = {"skipped": f"not installed: {missing}"}
    except Exception as error:
        figures = {"skipped": f"{type(error).__name__}: {str(error)[:300]}"}
    Path(answer).write_text(json.dumps(figures))


if __name__ == "__main__":
    main()
