"""Edit notebooks as readable percent-scripts, and run them with their outputs kept.

    python .ci/nb.py script   nbs/forms/00_thai.ipynb  /tmp/thai.py   notebook -> percent-script
    python .ci/nb.py notebook /tmp/thai.py  nbs/forms/00_thai.ipynb   percent-script -> notebook (outputs of unchanged cells stay)
    python .ci/nb.py run      nbs/forms/00_thai.ipynb [...]           export the package, run the notebooks, keep outputs, clean

A percent-script separates cells with `# %%` (code) and `# %% [markdown]` (prose, each line commented with `# `).
"""

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(sys.executable).parent


def call(*words: str) -> None:
    subprocess.run([str(HERE / words[0]), *words[1:]], check=True)


def script(notebook: str, out: str) -> None:
    call(
        "jupytext",
        "--quiet",
        "--to",
        "py:percent",
        "--opt",
        "notebook_metadata_filter=-all",
        "--opt",
        "cell_metadata_filter=tags",
        notebook,
        "-o",
        out,
    )


def notebook(source: str, out: str) -> None:
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    update = ["--update"] if Path(out).exists() else []
    call("jupytext", "--quiet", *update, "--to", "ipynb", "--set-kernel", "python3", source, "-o", out)
    page = json.loads(Path(out).read_text())
    page["metadata"].pop("jupytext", None)
    page["metadata"]["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    Path(out).write_text(json.dumps(page, ensure_ascii=False, indent=1) + "\n")
    call("nbdev-clean", "--fname", out)


def one_picture_each(path: str) -> None:
    "A Pillow image shows itself as PNG and as JPEG; the smaller one is enough"
    page = json.loads(Path(path).read_text())
    for output in (o for cell in page["cells"] for o in cell.get("outputs", ())):
        found = {k: len(v) for k, v in output.get("data", {}).items() if k in ("image/png", "image/jpeg")}
        if len(found) == 2:
            del output["data"][max(found, key=found.__getitem__)]
    Path(path).write_text(json.dumps(page, ensure_ascii=False, indent=1) + "\n")


def run(*notebooks: str) -> None:
    call("nbdev-export")
    for path in notebooks:
        call("nbdev-test", path, "--save", "--n-workers", "1", "--do-print")
        one_picture_each(path)
        call("nbdev-clean", "--fname", path)


if __name__ == "__main__":
    verbs = {"script": script, "notebook": notebook, "run": run}
    if len(sys.argv) < 3 or sys.argv[1] not in verbs:
        sys.exit(__doc__)
    verbs[sys.argv[1]](*sys.argv[2:])
