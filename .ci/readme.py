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
SETTINGS = Config(
    {
        "NbConvertBase": {"display_data_priority": ["text/markdown", "image/png", "image/jpeg", "text/plain"]},
        "TagRemovePreprocessor": {"enabled": True, "remove_input_tags": ["remove-input"]},
        "ExtractOutputPreprocessor": {"output_filename_template": "index_{cell_index}_{index}{extension}"},
    }
)


def shown() -> nbformat.NotebookNode:
    "The notebook without its hidden cells"
    notebook = nbformat.read(ROOT / "nbs/index.ipynb", 4)
    notebook.metadata["language_info"] = {"name": "python"}
    notebook.cells = [c for c in notebook.cells if not re.search(r"^#\|\s*(hide|default_exp)\b", c.source, re.M)]
    return notebook


def plain(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    "The notebook without its directives, which are obeyed"
    for c in notebook.cells:
        if re.search(r"^#\|\s*echo:\s*false", c.source, re.M):
            c.metadata["tags"] = ["remove-input"]
        c.source = re.sub(r"^#\|.*\n?", "", c.source, flags=re.M)
    return notebook


def from_root(markdown: str) -> str:
    "Links that count from nbs/, counting from the repository's root"
    return re.sub(r"(\]\(|src=\")(?!https?:|#|mailto:|nbs/)([^)\"]+)", r"\1nbs/\2", markdown).replace("nbs/../", "")


def described(markdown: str, cells: list) -> str:
    "Pictures with the words of their cell's `fig-alt`"
    words = {
        f"{IMAGES}/index_{i}_": found[1]
        for i, c in enumerate(cells)
        if (found := re.search(r"^#\|\s*fig-alt:\s*(.+)$", c, re.M))
    }
    return re.sub(r"!\[\w+\]\((\S*?index_\d+_)", lambda m: f"![{words.get(m[1], 'picture')}]({m[1]}", markdown)


def made() -> dict[Path, bytes]:
    "README.md and its pictures, by path"
    notebook = shown()
    sources = [c.source for c in notebook.cells]
    text, resources = MarkdownExporter(config=SETTINGS).from_notebook_node(
        plain(notebook), {"output_files_dir": IMAGES}
    )
    text = re.sub(r"^[ \t]+$", "", from_root(described(text, sources)), flags=re.M)
    readme = NOTE + re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"
    pictures = {ROOT / name: data for name, data in resources.get("outputs", {}).items()}
    return {ROOT / "README.md": readme.encode(), **pictures}


def main() -> None:
    files = made()
    stale = [p for p in (ROOT / IMAGES).glob("index_*") if p not in files]
    differ = [p for p, data in files.items() if not p.exists() or p.read_bytes() != data] + stale
    if "--check" in sys.argv:
        sys.exit(
            "run python .ci/readme.py and commit:\n  " + "\n  ".join(str(p.relative_to(ROOT)) for p in differ)
            if differ
            else 0
        )
    for path in stale:
        path.unlink()
    for path, data in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


if __name__ == "__main__":
    main()
