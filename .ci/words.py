"""Find words that make our English hard to read, in everything a person reads.

python .ci/words.py    name each file, line and word; exit with 1 when there is one

Read are Markdown files, the prose of notebooks, and the comments and texts (docstrings, messages) of code. A text of one word
or of names only is left alone. The list is short on purpose: words that other projects hardly use, each with the
word that readers know.
"""

import io
import json
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
INSTEAD = {  # word: what to write
    "told": "reported, printed, passed",
    "asked": "called, requested",
    "stands": "is, appears, is stored",
    "whoever": "users, the caller",
    "whom": "name the person",
    "beside": "next to, in addition to",
    "heard": "recorded",
    "somebody": "a user, a reviewer",
    "nobody": "no one",
}
ALLOWED = re.compile(r"told (apart|from)|stands? for", re.I)
WORDS = re.compile(r"(?<![\w`./'\"-])(" + "|".join(INSTEAD) + r")(?![\w`(='\"])", re.I)
NAMES = re.compile(r"\w+(, \w+)+")  # such as the parameters of a test
FOLDERS = ("nbs", "tests", ".ci", "benchmarks")
MARKDOWN = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
LIST = Path(__file__).resolve()


def hits(text: str, first_line: int = 1) -> Iterator[tuple[int, str]]:
    "Line and word of everything that is on the list"
    for number, line in enumerate(text.splitlines(), first_line):
        for match in WORDS.finditer(ALLOWED.sub("", re.sub(r"`[^`]*`", "", line))):
            yield number, match[0].lower()


def read_texts(code: str) -> Iterator[tuple[int, str]]:
    "First line and text of comments and strings of more than one word"
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(code).readline))
    except (tokenize.TokenError, SyntaxError):  # a cell with shell commands or magics
        return
    for token in tokens:
        if token.type == tokenize.COMMENT and not token.string.startswith("#|"):
            yield token.start[0], token.string
        elif token.type == tokenize.STRING and " " in token.string.strip() and not NAMES.fullmatch(token.string[1:-1]):
            yield token.start[0], re.sub(r"^\w*[\"']+|[\"']+$|\{[^{}]*\}", "", token.string)


def in_code(code: str, first_line: int = 1) -> Iterator[tuple[int, str]]:
    for line, text in read_texts(code):
        yield from hits(text, first_line + line - 1)


def in_notebook(path: Path) -> Iterator[tuple[int, str]]:
    "Hits of a notebook; the line is that of the file where the cell begins"
    raw = path.read_text(encoding="utf-8")
    for cell in json.loads(raw)["cells"]:
        source = "".join(cell["source"])
        line = raw[: max(raw.find(f'"id": "{cell.get("id")}"'), 0)].count("\n") + 1
        in_cell = hits(source) if cell["cell_type"] == "markdown" else in_code(source)
        yield from ((line, word) for _, word in in_cell)


def files() -> Iterator[Path]:
    yield from (ROOT / name for name in MARKDOWN)
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            hidden = any(part.startswith((".", "_")) for part in path.relative_to(ROOT / folder).parts)
            if path.suffix in (".py", ".ipynb", ".md") and not hidden and path != LIST:
                yield path


def in_file(path: Path) -> Iterator[tuple[int, str]]:
    if path.suffix == ".ipynb":
        return in_notebook(path)
    text = path.read_text(encoding="utf-8")
    return in_code(text) if path.suffix == ".py" else hits(text)


def main() -> int:
    lines = [
        f"{path.relative_to(ROOT)}:{line}: {word!r}: write {INSTEAD[word]}"
        for path in files()
        for line, word in in_file(path)
    ]
    print("\n".join(lines) if lines else "no word of the list is used")
    return bool(lines)


if __name__ == "__main__":
    sys.exit(main())
