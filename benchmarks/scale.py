"""What every operation costs as the work grows: CPU seconds and peak memory, each in a process of its own.

    python -m benchmarks.scale                              all operations at 1,000, 3,000 and 10,000 items
    python -m benchmarks.scale --sizes 10000 30000 100000   election night; hours of CPU before, minutes after
    python -m benchmarks.scale --only extract ensemble      some operations
    python -m benchmarks.scale --postgres postgresql://…    the same runs in PostgreSQL too
    python -m benchmarks.scale --out scale.md               a Markdown table next to the printed one

What an operation needs (a store with runs, a folder of scans) is made beforehand and not measured. CPU is that of the
process and of every process it starts, without importing the package. *Growth* is the exponent b of CPU = c + a·n^b between
the sizes: 1.0 is linear. *KB an item* is how much more memory the largest size needs than the smallest, by item.
"""

import argparse
import contextlib
import io
import json
import math
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROWS = 10  # candidates a form
N_MODELS = 3
PROVINCES = ("Bangkok", "Chiang Mai", "Khon Kaen", "Songkhla", "Nan")


# ---- the work: station reports, and readers that misread some


def report(
    number: int, rows: int = ROWS, wrong: random.Random | None = None, error_rate: float = 0.03
) -> dict[str, Any]:
    "The report of one polling station; with `wrong`, some numbers are misread"
    rng = random.Random(number)
    votes = [rng.randrange(10, 300) for _ in range(rows)]
    good = sum(votes)
    ballots = {
        "ballots_allocated": good + 120,
        "ballots_used": good + 20,
        "good_ballots": good,
        "bad_ballots": 12,
        "no_vote_ballots": 8,
        "ballots_remaining": 100,
    }
    voters = {"eligible_voters": good + 150, "present_voters": good + 20}
    misread = lambda v: v + 9 if wrong is not None and wrong.random() < error_rate else v
    return {
        "form_info": {
            "form_type": "Constituency",
            "province": PROVINCES[number % 5],
            "district": f"District {number % 50}",
            "constituency_number": 1 + number % 8,
            "polling_station_number": 1 + number,
        },
        "voter_statistics": {k: misread(v) for k, v in voters.items()},
        "ballot_statistics": {k: misread(v) for k, v in ballots.items()},
        "vote_results": [
            {"number": i + 1, "candidate_name": f"Candidate {i + 1}", "vote_count": misread(v)}
            for i, v in enumerate(votes)
        ],
        "total_votes_recorded": good,
    }


def item(number: int, folder: str | None = None) -> dict[str, Any]:
    name = f"station-{number:06d}"
    path = f"{folder or '/pages'}/{name}/page-1.png"
    return {
        "id": name,
        "input": {"form_set_name": name, "image_paths": [path], "num_pages": 1},
        "expected_output": {"reports": [report(number)]},
        "metadata": {"level": "easy"},
    }


class Reader:
    "A model that knows the truth and misreads 3 % of the numbers, each reader others"

    def __init__(self, name: str, rows: int = ROWS):
        self.name, self.rows, self.calls = name, rows, 0
        self.cpu_bound, self.version = False, "1"

    def extract(self, images: list[str], config: dict[str, Any]) -> Any:
        from vote_experiments.records import Extraction

        self.calls += 1
        number = int(Path(images[0]).parent.name.partition("-")[2])
        return Extraction({"reports": [report(number, self.rows, random.Random(f"{self.name}{number}"))]})


def register_readers(rows: int = ROWS) -> list[dict[str, Any]]:
    import vote_experiments as v

    names = [f"reader-{i}" for i in range(N_MODELS)]
    for name in names:
        v.register_model(name, Reader(name, rows))
    return [{"model": name} for name in names]


# ---- what is made beforehand, and kept for all operations of one size


class Work:
    "The folder of one size: stores and scans that operations begin with"

    def __init__(self, folder: Path, n: int, postgres: str | None = None):
        self.folder, self.n, self.postgres = folder / str(n), n, postgres
        self.folder.mkdir(parents=True, exist_ok=True)
        self.store = self.folder / "runs.db"

    def fresh(self, name: str) -> Path:
        "A store that does not exist yet"
        path = self.folder / f"{name}.db"
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        return path

    def scans(self) -> Path:
        "A folder with one page a station"
        from PIL import Image

        top = self.folder / "scans"
        if not (top / ".complete").exists():
            page = io.BytesIO()
            Image.new("L", (240, 340), 255).save(page, "PNG")
            for i in range(self.n):
                place = top / f"station-{i:06d}"
                place.mkdir(parents=True, exist_ok=True)
                (place / "page-1.png").write_bytes(page.getvalue())
            (top / ".complete").touch()
        return top

    def runs(self) -> str:
        "A group of three experiments over all items; its id"
        import vote_experiments as v

        kept = self.folder / "runs.json"
        if not kept.exists():
            v.save_dataset("national", [item(i) for i in range(self.n)], store=self.store)
            result = v.run_model_experiments(
                dataset_name="national",
                model_configs=register_readers(),
                jobs=4,
                store=self.store,
                backend="local",
                show_comparison=False,
                progress=False,
                raise_errors=False,
            )
            kept.write_text(json.dumps(result["group_id"]))
        return json.loads(kept.read_text())

    def experiments(self) -> list[str]:
        from vote_experiments import list_experiments

        return [e["id"] for e in list_experiments(self.store, group_id=self.runs())]


# ---- the operations: (prepare, do); `do` is measured

OPERATIONS: dict[str, tuple[Callable[[Work], Any], Callable[[Work], Any]]] = {}


def operation(prepare: Callable[[Work], Any] = lambda work: None) -> Callable:
    def add(do: Callable[[Work], Any]) -> Callable:
        OPERATIONS[do.__name__] = prepare, do
        return do

    return add


def _exact(output: Any, expected_output: Any) -> float:
    return float(output == expected_output)


def _parity(output: Any) -> float:
    return float(output % 2)


@operation(lambda work: work.fresh("plain"))
def run_experiment(work: Work) -> None:
    import vote_experiments as v

    v.run_experiment(
        name="plain",
        data=[{"id": str(i), "input": i, "expected_output": i} for i in range(work.n)],
        task=lambda input_data: input_data,
        evaluators=[_exact, _parity],
        store=work.folder / "plain.db",
    )


def _dataset(work: Work, url: Any = None) -> None:
    import vote_experiments as v

    v.save_dataset("national", [item(i) for i in range(work.n)], store=url or work.fresh("models"))


def _models(url: Any) -> None:
    import vote_experiments as v

    v.run_model_experiments(
        dataset_name="national",
        model_configs=register_readers()[:2],
        jobs=4,
        store=url,
        backend="local",
        show_comparison=False,
        progress=False,
        raise_errors=False,
    )


@operation(_dataset)
def run_model_experiments(work: Work) -> None:
    _models(work.folder / "models.db")


def _postgres_dataset(work: Work) -> None:
    import sqlalchemy as sa

    if work.postgres is None:
        raise Skipped("--postgres is not given")
    name = f"scale_{work.n}"
    with sa.create_engine(
        work.postgres.replace("postgresql://", "postgresql+psycopg://"), isolation_level="AUTOCOMMIT"
    ).connect() as c:
        c.exec_driver_sql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        c.exec_driver_sql(f'CREATE DATABASE "{name}"')
    _dataset(work, _postgres_url(work))


def _postgres_url(work: Work) -> str:
    import sqlalchemy as sa

    return sa.engine.make_url(work.postgres).set(database=f"scale_{work.n}").render_as_string(hide_password=False)


@operation(_postgres_dataset)
def postgresql(work: Work) -> None:
    _models(_postgres_url(work))


def _read_folder(work: Work, name: str, folder: Path) -> None:
    import vote_experiments as v

    configs = register_readers()
    v.extract(folder, configs[0], store=work.folder / f"{name}.db", out=work.folder / "tables", jobs=4, progress=False)


def _scans_once(work: Work) -> None:
    work.scans()
    work.fresh("extract")


@operation(_scans_once)
def extract(work: Work) -> None:
    _read_folder(work, "extract", work.folder / "scans")


def _read_before(work: Work) -> None:
    work.scans()
    work.fresh("again")
    _read_folder(work, "again", work.folder / "scans")


@operation(_read_before)
def extract_again(work: Work) -> None:
    _read_folder(work, "again", work.folder / "scans")


@operation(lambda work: work.scans())
def group_folder(work: Work) -> None:
    from vote_experiments import group_folder

    group_folder(work.folder / "scans")


@operation(lambda work: (work.scans(), work.fresh("imported")))
def import_folder(work: Work) -> None:
    from vote_experiments import import_folder

    import_folder(work.folder / "scans", "scans", store=work.folder / "imported.db")


@operation(lambda work: work.runs())
def ensemble(work: Work) -> None:
    import vote_experiments as v

    v.ensemble(work.experiments(), store=work.store)


@operation(lambda work: work.runs())
def suspect_labels(work: Work) -> None:
    import vote_experiments as v

    v.suspect_labels({e: v.experiment_result(e, work.store).item_results for e in work.experiments()})


@operation(lambda work: work.runs())
def seat_flips(work: Work) -> None:
    import vote_experiments as v

    v.seat_flips(v.experiment_result(work.experiments()[0], work.store).item_results)


@operation(lambda work: work.runs())
def rescore(work: Work) -> None:
    import vote_experiments as v

    v.rescore(work.experiments()[0], [v.has_no_errors], store=work.store)


def _without_the_last(work: Work) -> None:
    import sqlalchemy as sa

    from vote_experiments.store.database import open_store

    work.fresh("resumed")
    _dataset(work, work.folder / "resumed.db")
    _models(work.folder / "resumed.db")
    with open_store(work.folder / "resumed.db").write() as c:
        c.execute(sa.text("DELETE FROM item_results WHERE position >= :n"), {"n": work.n - 100})
        c.execute(sa.text("UPDATE experiments SET status = 'interrupted', owner = NULL"))
        c.execute(sa.text("UPDATE experiment_groups SET status = 'running'"))


@operation(_without_the_last)
def resume(work: Work) -> None:
    import vote_experiments as v

    v.run_model_experiments(
        dataset_name="national",
        model_configs=register_readers()[:2],
        jobs=4,
        store=work.folder / "resumed.db",
        backend="local",
        show_comparison=False,
        progress=False,
        raise_errors=False,
        resume=True,
    )


@operation(lambda work: work.runs())
def share(work: Work) -> None:
    (work.folder / "shared.zip").unlink(missing_ok=True)
    _cli(work, "runs", "share", work.runs(), "-o", str(work.folder / "shared.zip"))


def _shared(work: Work) -> None:
    work.runs()
    work.fresh("taken")
    if not (work.folder / "shared.zip").exists():
        _cli(work, "runs", "share", work.runs(), "-o", str(work.folder / "shared.zip"))


@operation(_shared)
def import_run(work: Work) -> None:
    _cli(work, "runs", "import", str(work.folder / "shared.zip"), store=work.folder / "taken.db")


@operation(lambda work: work.runs())
def export(work: Work) -> None:
    _cli(work, "export", work.experiments()[0], "-o", str(work.folder / "results.csv"))


@operation(lambda work: work.runs())
def compare(work: Work) -> None:
    _cli(work, "compare", work.runs())


@operation(lambda work: work.runs())
def gate(work: Work) -> None:
    _cli(work, "gate", work.runs(), "--fail-under", "0.1")


@operation(lambda work: work.runs())
def report_page(work: Work) -> None:
    _cli(work, "report", work.runs(), "--rerender")


@operation(lambda work: work.runs())
def explorer_open(work: Work) -> None:
    from vote_experiments import RecordExplorer

    RecordExplorer(work.runs(), store=work.store)


@operation(lambda work: work.runs())
def runs_list(work: Work) -> None:
    _cli(work, "runs", "list")


def _cli(work: Work, *words: str, store: Path | None = None) -> None:
    "A command in this process, without its output"
    from typer.testing import CliRunner

    app = _command_line()
    result = CliRunner().invoke(app, [*words, "--store", str(store or work.store)])
    if result.exit_code:
        raise RuntimeError(f"{' '.join(words)}: exit {result.exit_code}: {result.output[-400:]}")


def _command_line() -> Any:
    import importlib

    for name in ("vote_experiments.cli.main", "vote_experiments.cli", "vote_experiments.interfaces.cli"):
        with contextlib.suppress(ImportError):
            module = importlib.import_module(name)
            if hasattr(module, "app"):
                return module.app
    raise RuntimeError("the package has no command line")


# ---- measuring


class Skipped(Exception):
    "An operation that cannot run here"


def _cpu() -> float:
    used = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(u.ru_utime + u.ru_stime for u in used)


def measure_here(name: str, work: Work) -> dict[str, float]:
    "Run one operation in this process: CPU seconds, wall seconds, peak MB"
    import vote_experiments  # noqa: F401, PLC0415  not part of the operation

    before, began = _cpu(), time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        OPERATIONS[name][1](work)
    return {"cpu_s": _cpu() - before, "wall_s": time.perf_counter() - began, "mb": _peak_mb()}


def _peak_mb() -> float:
    largest_child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return max(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, largest_child) / 1024


def _in_own_process(step: str, name: str, args: argparse.Namespace, n: int) -> dict[str, Any]:
    words = [
        sys.executable,
        "-m",
        "benchmarks.scale",
        "--step",
        step,
        "--only",
        name,
        "--sizes",
        str(n),
        "--work",
        str(args.work),
    ]
    words += ["--postgres", args.postgres] if args.postgres else []
    environment = {
        **os.environ,
        "VOTE_EXPERIMENTS_RUNS": str(args.work / str(n) / "archive"),
        "VOTE_EXPERIMENTS_PLAIN": "1",
    }
    done = subprocess.run(words, capture_output=True, text=True, timeout=args.timeout_s, env=environment)
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["it ended without a word"])[-1][:300]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def growth(points: list[tuple[int, float]]) -> float | None:
    "The exponent b of c + a·n^b, from the first and last two sizes; of a·n^b with two sizes. None with one, or no growth"
    if len(points) < 2:
        return None
    if len(points) == 2:
        (n1, t1), (n2, t2) = points
        return math.log(max(t2, 1e-3) / max(t1, 1e-3)) / math.log(n2 / n1)
    (n1, t1), (n2, t2), (n3, t3) = points[0], points[len(points) // 2], points[-1]
    if t3 - t1 < 0.3:  # seconds: too little to say
        return None
    share = max(1e-3, (t2 - t1) / (t3 - t1))
    low, high = 0.05, 6.0
    for _ in range(60):  # the share falls as b rises
        b = (low + high) / 2
        if (n2**b - n1**b) / (n3**b - n1**b) > share:
            low = b
        else:
            high = b
    return b


def rows(results: dict[str, list[dict[str, Any]]]) -> Iterator[list[str]]:
    for name, found in results.items():
        good = [f for f in found if "cpu_s" in f]
        if not good:
            yield [name, *(f.get("error", "")[:80] for f in found[-1:])]
            continue
        b = growth([(f["n"], f["cpu_s"]) for f in good])
        first, last = good[0], good[-1]
        each = (
            1000 * (last["cpu_s"] - first["cpu_s"]) / (last["n"] - first["n"])
            if len(good) > 1
            else 1000 * last["cpu_s"] / last["n"]
        )
        kb = 1024 * (last["mb"] - first["mb"]) / (last["n"] - first["n"]) if len(good) > 1 else float("nan")
        yield [
            name,
            *(f"{f['cpu_s']:.1f} / {f['mb']:.0f}" for f in good),
            f"{each:.3f}",
            "–" if b is None else f"{b:.2f}",
            f"{kb:.2f}",
        ]


def table(results: dict[str, list[dict[str, Any]]], sizes: list[int]) -> str:
    head = ["operation", *(f"{n:,}: CPU s / MB" for n in sizes), "ms an item", "growth", "KB an item"]
    lines = [head, ["---"] * len(head), *rows(results)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 3000, 10_000])
    parser.add_argument("--only", nargs="+", choices=list(OPERATIONS), default=list(OPERATIONS), metavar="OPERATION")
    parser.add_argument(
        "--work", type=Path, default=None, help="folder for stores and scans; default: a new one, removed at the end"
    )
    parser.add_argument("--postgres", default=None, help="URL of a server where databases may be created")
    parser.add_argument("--timeout-s", type=float, default=3600)
    parser.add_argument("--out", type=Path, default=None, help="write the table into this Markdown file")
    parser.add_argument("--step", choices=["prepare", "measure"], default=None, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step:
        work = Work(args.work, args.sizes[0], args.postgres)
        try:
            if args.step == "prepare":
                with contextlib.redirect_stdout(io.StringIO()):
                    OPERATIONS[args.only[0]][0](work)
                print("{}")
            else:
                print(json.dumps(measure_here(args.only[0], work)))
        except Skipped as why:
            print(json.dumps({"error": str(why)}))
        return
    with contextlib.ExitStack() as stack:
        args.work = args.work or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="scale-")))
        results: dict[str, list[dict[str, Any]]] = {}
        for name in args.only:
            for n in args.sizes:
                found = _in_own_process("prepare", name, args, n)
                found = found if "error" in found else _in_own_process("measure", name, args, n)
                results.setdefault(name, []).append({"n": n, **found})
                print(f"{name} {n:,}: {json.dumps(found)}", file=sys.stderr, flush=True)
        text = table(results, args.sizes)
        print(text)
        if args.out:
            args.out.write_text(f"# Cost by size\n\n{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
