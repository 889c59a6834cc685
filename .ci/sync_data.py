"""Copy the report templates of nbs/report_templates/ and the pages of nbs/apps/ into the package, as papermill and Voila want them.

    python .ci/sync_data.py            copy
    python .ci/sync_data.py --check    change nothing; exit with 1 when a copy is out of date

A copy has no outputs and no raw cells. The first code cell of a report has the tag `parameters` (nbdev-clean drops tags); a page
has its code only, and its heading as the title of the browser's tab.
"""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KINDS = {
    "report_templates": "reports/templates",
    "apps": "widgets/apps",
}  # folder of nbs/: its copy in vote_experiments/


def packaged(notebook: dict, kind: str) -> str:
    "The text of a notebook's copy"
    kept = ("code", "markdown") if kind == "report_templates" else ("code",)
    cells = [c for c in notebook["cells"] if c["cell_type"] in kept]
    first = next(c for c in cells if c["cell_type"] == "code")
    cells = [
        {
            **c,
            "metadata": {"tags": ["parameters"]} if c is first and kind == "report_templates" else {},
            **({"outputs": [], "execution_count": None} if c["cell_type"] == "code" else {}),
        }
        for c in cells
    ]
    metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    if kind == "apps":
        heading = next(c for c in notebook["cells"] if c["cell_type"] == "markdown")
        metadata["title"] = "".join(heading["source"]).splitlines()[0].removeprefix("# ")
    return json.dumps({**notebook, "metadata": metadata, "cells": cells}, ensure_ascii=False, indent=1) + "\n"


def main(check: bool) -> int:
    n_changed = n = 0
    for kind, copy in KINDS.items():
        source, target = ROOT / "nbs" / kind, ROOT / "vote_experiments" / copy
        wanted = {
            p.name: packaged(json.loads(p.read_text(encoding="utf-8")), kind) for p in sorted(source.glob("*.ipynb"))
        }
        there = {p.name: p.read_text(encoding="utf-8") for p in target.glob("*.ipynb")}
        changed = sorted(name for name in wanted.keys() | there.keys() if wanted.get(name) != there.get(name))
        n, n_changed = n + len(wanted), n_changed + len(changed)
        if check:
            for name in changed:
                print(f"{target.relative_to(ROOT)}/{name} is not what nbs/{kind}/ says: run python .ci/sync_data.py")
            continue
        target.mkdir(parents=True, exist_ok=True)
        for name in changed:
            (target / name).unlink(missing_ok=True) if name not in wanted else (target / name).write_text(
                wanted[name], encoding="utf-8"
            )
    if not check:
        print(f"{n} notebooks, {n_changed} written")
    return 1 if check and n_changed else 0


if __name__ == "__main__":
    if set(sys.argv[1:]) - {"--check"}:
        sys.exit(__doc__)
    sys.exit(main("--check" in sys.argv))
