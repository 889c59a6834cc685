"""Make README.md from nbs/index.ipynb and the outputs that are saved in it, without running anything.

    python .ci/readme.py           write README.md and its pictures
    python .ci/readme.py --check   say what differs, change nothing
"""

import re
import sys
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter
from traitlets.config import Config

ROOT = Path(__file__).resolve().parents[1]
IMAGES = "nbs/images"
NOTE = "<!-- Made from nbs/index.ipynb by .ci/readme.py: change it there. -->\n\n"
SETTINGS = Config({
    "NbConvertBase": {"display_data_priority": ["text/markdown", "image/png", "image/jpeg", "text/plain"]},
    "TagRemovePreprocessor": {"enabled": True, "remove_input_tags": ["remove-input"]},
    "ExtractOutputPreprocessor": {"output_filename_template": "index_{cell_index}_{index}{extension}"},
})


def page() -> nbformat.NotebookNode:
    "The notebook without its hidden cells and its directives"
    notebook = nbformat.read(ROOT / "nbs/index.ipynb", 4)
    notebook.metadata["language_info"] = {"name": "python"}
    notebook.cells = [c for c in notebook.cells if not re.search(r"^#\|\s*(hide|default_exp)\b", c.source, re.M)]
    for c in notebook.cells:
        if re.search(r"^#\|\s*echo:\s*false", c.source, re.M):
            c.metadata["tags"] = ["remove-input"]
        c.source = re.sub(r"^#\|.*\n?", "", c.source, flags=re.M)
    return notebook


def from_root(markdown: str) -> str:
    "Links that count from nbs/, counting from the repository's root"
    return re.sub(r"(\]\(|src=\")(?!https?:|#|mailto:|nbs/)([^)\"]+)", r"\1nbs/\2", markdown).replace("nbs/../", "")


def made() -> dict[Path, bytes]:
    "README.md and its pictures, by path"
    text, resources = MarkdownExporter(config=SETTINGS).from_notebook_node(page(), {"output_files_dir": IMAGES})
    readme = NOTE + re.sub(r"\n{3,}", "\n\n", from_root(text)).strip() + "\n"
    pictures = {ROOT / name: data for name, data in resources.get("outputs", {}).items()}
    return {ROOT / "README.md": readme.encode(), **pictures}


def main() -> None:
    files = made()
    stale = [p for p in (ROOT / IMAGES).glob("index_*") if p not in files]
    differ = [p for p, data in files.items() if not p.exists() or p.read_bytes() != data] + stale
    if "--check" in sys.argv:
        sys.exit("run python .ci/readme.py and commit:\n  " + "\n  ".join(str(p.relative_to(ROOT)) for p in differ)
                 if differ else 0)
    for path in stale:
        path.unlink()
    for path, data in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


if __name__ == "__main__":
    main()
