"""Copy the notebooks that the package runs (reports, apps) from nbs/ into the package, as data.

    python .ci/package_data.py           copy
    python .ci/package_data.py --check   say what differs, change nothing
"""

import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {"nbs/reports": "vote_experiments/interfaces/reports", "nbs/apps": "vote_experiments/interfaces/apps"}


def wanted() -> dict[Path, Path]:
    "The copy of every notebook: where it comes from"
    return {ROOT / target / page.name: page for source, target in FOLDERS.items()
            for page in sorted((ROOT / source).glob("*.ipynb"))}


def stale() -> list[Path]:
    "Copies whose notebook is gone"
    return [p for target in FOLDERS.values() for p in (ROOT / target).glob("*.ipynb") if p not in wanted()]


def main() -> None:
    pages = wanted()
    differ = [c for c, page in pages.items() if not c.exists() or c.read_bytes() != page.read_bytes()] + stale()
    if "--check" in sys.argv:
        sys.exit("run python .ci/package_data.py and commit:\n  " + "\n  ".join(str(p.relative_to(ROOT)) for p in differ)
                 if differ else 0)
    for copy in differ:
        if copy in pages:
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(pages[copy], copy)
        else:
            copy.unlink()


if __name__ == "__main__":
    main()
