"""Measure how the code and its prose are built: names, modules, cells, words.

    python .ci/structure.py            this checkout
    python .ci/structure.py --json     the same as JSON, to compare two commits

Counts come from the sources alone; nothing is imported.
"""

import ast
import json
import re
import statistics
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LARGE, SMALL = 450, 60  # lines of a module
QUAINT = (
    "told",
    "asked",
    "stands",
    "whoever",
    "whom",
    "beside",
    "heard",
    "somebody",
    "nobody",
)  # words that other projects hardly use
HIDING = ("found", "its", "said", "told", "heard", "asked")  # variable names that do not say what they hold


def modules() -> list[Path]:
    return sorted(p for p in (ROOT / "vote_experiments").rglob("*.py") if p.name not in ("__init__.py", "_modidx.py"))


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def notebooks() -> list[Path]:
    return sorted(
        p
        for p in (ROOT / "nbs").rglob("*.ipynb")
        if not any(part.startswith(".") for part in p.relative_to(ROOT).parts)
    )


def public_names() -> int:
    stub = ROOT / "vote_experiments/__init__.pyi"
    if stub.exists():
        tree = ast.parse(stub.read_text(encoding="utf-8"))
        return sum(len(node.names) for node in tree.body if isinstance(node, ast.ImportFrom))
    tree = ast.parse((ROOT / "vote_experiments/__init__.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if (
            isinstance(node, ast.Assign)
            and getattr(node.targets[0], "id", "") == "__all__"
            and isinstance(node.value, ast.List)
        ):
            return len(node.value.elts)
    return 0


def is_class(source: str) -> bool:
    "Whether a cell is the body of a class, which may be long"
    try:
        return any(isinstance(node, ast.ClassDef) for node in ast.parse(source).body)
    except SyntaxError:
        return False


def cells() -> dict[str, float]:
    "How long exported cells are, how many others assert, how much prose there is"
    exported, others, asserting, words, exported_lines = [], 0, 0, 0, 0
    for path in notebooks():
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            source = "".join(cell["source"])
            if cell["cell_type"] == "markdown":
                words += len(re.findall(r"\w+", source))
            elif source.startswith("#| export"):
                body = [line for line in source.splitlines()[1:] if line.strip()]
                exported_lines += len(body)
                if (
                    body
                    and not is_class(source)
                    and not all(re.match(r"(from|import|    |\)|log =)", line) for line in body)
                ):
                    exported.append(len(body))
            elif not source.startswith("#| default_exp") and source.strip():
                others += 1
                asserting += bool(re.search(r"\bassert\b|test_(eq|fail|close|ne)|expect_fail|\.testing\.", source))
    ordered = sorted(exported)
    return {
        "exported cells": len(ordered),
        "median lines": statistics.median(ordered),
        "p90 lines": ordered[int(0.9 * len(ordered))],
        "other cells that assert, %": round(100 * asserting / others, 1),
        "words of prose per exported line": round(words / exported_lines, 2),
    }


def prose() -> str:
    "Everything a person reads: Markdown, docstrings and comments"
    parts = [p.read_text(encoding="utf-8") for p in ROOT.glob("*.md") if p.name != "CHANGELOG.md"]
    for path in notebooks():
        book = json.loads(path.read_text(encoding="utf-8"))["cells"]
        parts += ["".join(c["source"]) for c in book if c["cell_type"] == "markdown"]
    for path in modules():
        text = path.read_text(encoding="utf-8")
        parts += re.findall(r"#\s(?!%%)(.*)", text)
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Module)):
                parts.append(ast.get_docstring(node) or "")
    return "\n".join(parts)


def hiding_names() -> Counter:
    "How often a variable or a parameter has a name that hides what it holds"
    counts: Counter = Counter()
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = (
                node.id
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
                else node.arg
                if isinstance(node, ast.arg)
                else ""
            )
            if name in HIDING:
                counts[name] += 1
    return counts


def main(as_json: bool) -> None:
    sizes = {str(p.relative_to(ROOT)): lines(p) for p in modules()}
    words = re.findall(r"[A-Za-z]+", prose().lower())
    quaint = {w: n for w, n in Counter(words).items() if w in QUAINT}
    hiding = hiding_names()
    measured = {
        "public names at the top": public_names(),
        "modules": len(sizes),
        f"modules over {LARGE} lines": sorted(p for p, n in sizes.items() if n > LARGE),
        f"modules under {SMALL} lines": sorted(p for p, n in sizes.items() if n < SMALL),
        "lines of the package": sum(sizes.values()),
        "lines of tests": sum(lines(p) for p in (ROOT / "tests").rglob("*.py")),
        "lines of .ci": sum(
            lines(p)
            for p in (ROOT / ".ci").rglob("*")
            if p.is_file() and p.suffix in (".py", ".js", ".css", ".html", "")
        ),
        **cells(),
        "quaint words per 10,000": round(1e4 * sum(quaint.values()) / len(words), 1),
        "names that hide what they hold": sum(hiding.values()),
    }
    if as_json:
        print(json.dumps(measured, indent=1))
        return
    for name, value in measured.items():
        print(f"{name:34} " + (f"{len(value)}: {', '.join(value)}" if isinstance(value, list) else f"{value:,}"))


if __name__ == "__main__":
    if set(sys.argv[1:]) - {"--json"}:
        sys.exit(__doc__)
    main("--json" in sys.argv)
