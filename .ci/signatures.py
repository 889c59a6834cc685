"""Write the parameters of public functions into their notebooks, so that `help`, editors and type checkers see every one.

    python .ci/signatures.py            write them
    python .ci/signatures.py --check    change nothing; exit with 1 when a signature is out of date

A function asks for it with a comment as the first of its parameters, or after parameters of its own:

    # from ComparisonRequest: run                     the fields of `experiments.request.ComparisonRequest` that a call takes
    # from ComparisonRequest: race, first a b         the same, with a and b first and positional
    # from ComparisonRequest: run flags               the same as options of a command
    # from ComparisonRequest: run http                the fields that HTTP carries, all by keyword
    # from arun_experiment                            the parameters of another function
    # from arun_experiment, without data task         the same, without some of them

Everything from the comment to the end of the parameters is replaced.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "nbs").rglob("*.ipynb"))
MARK = re.compile(r"^( +)# from (\w+)(?:: (\w+( flags| http)?))?(?:, first ([\w ]+?))?(?:, without ([\w ]+?))?\n", re.M)
END = re.compile(r"^ *\)( ->.*)?:.*$", re.M)
POSITIONAL = {"run": "return_results"}  # the last one of a call


def constants() -> dict[str, str]:
    "Names of the defaults that have one, by value"
    from vote_experiments import settings

    names = ("DEFAULT_ML_APP", "DEFAULT_PROJECT", "DEFAULT_DATASET")
    return {repr(getattr(settings, name)): name for name in names}


def of_request(call: str, first: str, without: str, interface: str | None = None) -> list[str]:
    "Parameter lines of the request's fields, in order"
    from vote_experiments.experiments.request import FIELDS, fields_of, option_of

    ahead = first.split()
    names = [*ahead, *(n for n in fields_of(interface, call) if n not in ahead and n not in without.split())]  # type: ignore[arg-type]
    last = ahead[-1] if ahead else None if interface else POSITIONAL[call]
    named = constants()
    lines = []
    for name in names:
        default = repr(FIELDS[name].default).replace("'", '"')
        default = named.get(repr(FIELDS[name].default), default)
        lines.append(f"{name}: {option_of(name).written} = {default},  # {FIELDS[name].description}")
        if name == last:
            lines.append("*,")
    return lines


BY_HAND = ("model_configs", "resume", "store")  # flags that stand for a part of a field, or for several


def flag_type(schema: dict) -> str:
    "The type of a flag, from the JSON schema of its field"
    types = {"integer": "int", "number": "float", "boolean": "bool", "array": "list[str]", "object": "list[str]"}
    kinds = {part.get("type") for part in schema.get("anyOf", [schema])} - {"null"}
    if kinds == {"boolean", "string"}:  # yes, no, or a word that has a flag of its own
        return "bool"
    return types.get(kinds.pop(), "str") if len(kinds) == 1 else "str"


def flags_of(call: str) -> list[str]:
    "Options of a command, one for each field"
    from vote_experiments.experiments.request import FIELDS, fields_of, option_of
    from vote_experiments.experiments.request_checks import field_schema

    lines = []
    for name in fields_of("cli", call):  # type: ignore[arg-type]
        if name in BY_HAND:
            continue
        default, schema = FIELDS[name].default, field_schema(name)
        text, _, otherwise = (FIELDS[name].description or "").partition("; None: ")
        shown = (
            f" Default: {otherwise}."
            if otherwise
            else ""
            if default is None or isinstance(default, bool)
            else f" Default: {default}."
        )
        flags = option_of(name).flags or ("--" + name.replace("_", "-"),)
        quoted = ", ".join(f'"{f}"' for f in flags)
        metavar = ', metavar="NAME=NUMBER"' if any(p.get("type") == "object" for p in schema.get("anyOf", [])) else ""
        lines.append(
            f"{name}: Annotated[{flag_type(schema)} | None, typer.Option({quoted}, show_default=False{metavar},"
        )
        lines.append(f'    help="{text[:1].upper()}{text[1:]}.{shown}")] = None,')
    return lines


def parameters_of(function: str, cells: list[str]) -> list[str]:
    "Parameter lines of a function as its notebook has them"
    head = re.compile(rf"^(?:async )?def {function}\(\n", re.M)
    for text in cells:
        if match := head.search(text):
            rest = text[match.end() :]
            end = END.search(rest)
            assert end is not None
            lines = [line.strip() for line in rest[: end.start()].splitlines()]
            return [line for line in lines if line and not line.startswith("# from ")]
    raise SystemExit(f"no exported cell defines {function}(")


def of_function(function: str, without: str, cells: list[str]) -> list[str]:
    dropped = without.split()
    lines = [
        line
        for line in parameters_of(function, cells)
        if not re.match(rf"({'|'.join(dropped) or '-'})\b\s*[:=,]", line)
    ]
    return lines[:-1] if lines[-1:] == ["*,"] else lines


def rewritten(text: str, cells: list[str]) -> str:
    "A cell with every signature that asks for it written anew"
    place = 0
    while match := MARK.search(text, place):
        indent, source, call, is_flags, first, without = match.groups(default="")
        end = END.search(text, match.end())
        if end is None or not text[end.start() :].startswith(indent[:-4] + ")"):
            raise SystemExit(f"the parameters after {match[0].strip()!r} have no end")
        is_request = source == "ComparisonRequest"
        if is_flags == " flags":
            lines = flags_of(call.split()[0])
        elif is_flags:
            lines = ["*,", *of_request(call.split()[0], "", without, "http")]
        else:
            lines = of_request(call, first, without) if is_request else of_function(source, without, cells)
        before = text[: match.start()].rpartition("def ")[2]
        if is_flags != " flags" and re.search(r"^ *\*,", before, re.M):  # keyword-only already
            lines = [line for line in lines if line != "*,"]
        body = "".join(f"{indent}{line}\n" for line in lines)
        text = text[: match.end()] + body + text[end.start() :]
        place = match.end() + len(body)
    return text


def formatted(cell: str) -> str:
    "A cell as `ruff format` leaves it"
    ruff = [sys.executable, "-m", "ruff", "format", "--stdin-filename", "cell.py", "-"]
    return subprocess.run(ruff, input=cell, capture_output=True, text=True, check=True, cwd=ROOT).stdout.rstrip("\n")


def current(text: str, cells: list[str]) -> str:
    "A cell with its signatures written anew, or the cell itself where they are up to date"
    if not MARK.search(text):
        return text
    new = formatted(rewritten(text, cells))
    return text if new == formatted(text) else new


def main(check: bool) -> int:
    books = {path: json.loads(path.read_text(encoding="utf-8")) for path in NOTEBOOKS}
    exported = [c for book in books.values() for c in book["cells"] if "".join(c["source"]).startswith("#| export")]
    late = []
    for _ in range(4):  # a signature may be made from one that is made from another
        cells = ["".join(c["source"]) for c in exported]
        changed = {id(c): new for c, text in zip(exported, cells) if (new := current(text, cells)) != text}
        for path, book in books.items():
            for cell in book["cells"]:
                if id(cell) in changed:
                    cell["source"] = changed[id(cell)].splitlines(keepends=True)
                    late.append(path)
        if not changed:
            break
    for path in dict.fromkeys(late):
        if check:
            print(f"{path.relative_to(ROOT)}: a signature is out of date: run python .ci/signatures.py")
        else:
            path.write_text(json.dumps(books[path], ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
            print(f"written: {path.relative_to(ROOT)}")
    return 1 if check and late else 0


if __name__ == "__main__":
    if set(sys.argv[1:]) - {"--check"}:
        sys.exit(__doc__)
    sys.exit(main("--check" in sys.argv))
