"""Copy the report templates of nbs/reports/ into the package, as papermill wants them.

    python .ci/sync_data.py            copy
    python .ci/sync_data.py --check    change nothing; exit with 1 when a copy is out of date

A copy has no outputs and no raw cells, and its first code cell has the tag `parameters` (nbdev-clean drops tags).
"""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE, TARGET = ROOT / "nbs/reports", ROOT / "vote_experiments/interfaces/reports"


def packaged(notebook: dict) -> str:
    "The text of a template's copy"
    cells = [c for c in notebook["cells"] if c["cell_type"] != "raw"]
    first = next(c for c in cells if c["cell_type"] == "code")
    cells = [{**c, "metadata": {"tags": ["parameters"]} if c is first else {},
              **({"outputs": [], "execution_count": None} if c["cell_type"] == "code" else {})} for c in cells]
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return json.dumps({**notebook, "metadata": kernel, "cells": cells}, ensure_ascii=False, indent=1) + "\n"


def main(check: bool) -> int:
    wanted = {p.name: packaged(json.loads(p.read_text(encoding="utf-8"))) for p in sorted(SOURCE.glob("*.ipynb"))}
    there = {p.name: p.read_text(encoding="utf-8") for p in TARGET.glob("*.ipynb")}
    changed = sorted(n for n in wanted.keys() | there.keys() if wanted.get(n) != there.get(n))
    if check:
        for name in changed:
            print(f"{TARGET.relative_to(ROOT)}/{name} is not what nbs/reports/ says: run python .ci/sync_data.py")
        return 1 if changed else 0
    TARGET.mkdir(parents=True, exist_ok=True)
    for name in changed:
        (TARGET / name).unlink(missing_ok=True) if name not in wanted else (TARGET / name).write_text(wanted[name], encoding="utf-8")
    print(f"{len(wanted)} templates, {len(changed)} written")
    return 0


if __name__ == "__main__":
    if set(sys.argv[1:]) - {"--check"}:
        sys.exit(__doc__)
    sys.exit(main("--check" in sys.argv))
