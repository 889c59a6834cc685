"""Build a wheel and compare it with what is committed: an editable install hides a file that setuptools forgets.

python .ci/wheel.py
"""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def committed() -> set[str]:
    "Every committed file of the package"
    names = subprocess.run(
        ["git", "ls-files", "-z", "vote_experiments"], cwd=ROOT, capture_output=True, check=True
    ).stdout
    return {n for n in names.decode().split("\0") if n}


def built(folder: str) -> set[str]:
    "Every file of a wheel made now"
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", folder, str(ROOT)], check=True, stdout=subprocess.PIPE
    )
    (wheel,) = Path(folder).glob("*.whl")
    return set(zipfile.ZipFile(wheel).namelist())


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        files = built(folder)
    missing = sorted(committed() - files)
    if not any(n.endswith("licenses/LICENSE") for n in files):
        missing.append("LICENSE")
    if missing:
        sys.exit("not in the wheel, add them to [tool.setuptools.package-data]:\n  " + "\n  ".join(missing))


if __name__ == "__main__":
    main()
