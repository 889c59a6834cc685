"""What the reference says about a public function, class or constant, read from the source that defines it.

Parameters are documented as nbdev has it: a comment after each one, on its line, and one after the return type.
"""

import ast
import io
import tokenize
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "vote_experiments"


@dataclass
class Parameter:
    name: str
    type: str = ""
    default: str = ""
    meaning: str = ""


@dataclass
class Entry:
    "A public name: what it is, what it takes, what it gives back"

    name: str  # qualified within its module, such as Dataset.items
    kind: str  # function, class, method, property or constant
    module: str  # such as vote_experiments.datasets.dataset
    line: int
    doc: str = ""
    parameters: list[Parameter] = field(default_factory=list)
    returns: Parameter | None = None
    value: str = ""  # of a constant, when it is short
    is_async: bool = False
    methods: list["Entry"] = field(default_factory=list)

    @property
    def summary(self) -> str:
        return self.doc.strip().split("\n\n")[0].replace("\n", " ")


Definition = ast.FunctionDef | ast.AsyncFunctionDef


def comments(source: str) -> dict[int, str]:
    "Line number -> the comment that ends this line"
    found = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and token.line[: token.start[1]].strip():
            text = token.string.lstrip("# ").strip()
            found[token.start[0]] = "" if text.startswith(("noqa", "type:", "pyright:")) else text
    return found


def shown(node: ast.AST | None) -> str:
    return "" if node is None else ast.unparse(node)


def parameters_of(
    function: Definition, remarks: dict[int, str], bound: bool
) -> tuple[list[Parameter], Parameter | None]:
    "The parameters of a function without `self`, and what it returns"
    a = function.args
    plain = [*a.posonlyargs, *a.args]
    defaults = [None] * (len(plain) - len(a.defaults)) + a.defaults
    rows: list[tuple[str, ast.arg, ast.expr | None]] = [("", arg, default) for arg, default in zip(plain, defaults)]
    if bound and rows:
        rows = rows[1:]
    if a.vararg:
        rows.append(("*", a.vararg, None))
    rows += [("", arg, default) for arg, default in zip(a.kwonlyargs, a.kw_defaults)]
    if a.kwarg:
        rows.append(("**", a.kwarg, None))
    signature_ends = (function.returns.end_lineno if function.returns else 0) or function.lineno
    ends = [max(arg.end_lineno or 0, (default.end_lineno or 0) if default else 0) for _, arg, default in rows]
    found = []
    for i, (stars, arg, default) in enumerate(rows):
        is_last_of_line = i + 1 == len(rows) or rows[i + 1][1].lineno > ends[i]
        meaning = remarks.get(ends[i], "") if is_last_of_line and ends[i] != signature_ends else ""
        found.append(Parameter(stars + arg.arg, shown(arg.annotation), shown(default), meaning))
    meaning = remarks.get(signature_ends, "")
    returns = Parameter("", shown(function.returns), "", meaning) if function.returns or meaning else None
    return found, returns


def decorators(node: Definition | ast.ClassDef) -> set[str]:
    return {shown(d.func if isinstance(d, ast.Call) else d).split(".")[-1] for d in node.decorator_list}


def function_entry(node: Definition, module: str, remarks: dict[int, str], inside: str = "") -> Entry:
    marks = decorators(node)
    bound = bool(inside) and "staticmethod" not in marks
    parameters, returns = parameters_of(node, remarks, bound)
    kind = "function" if not inside else "property" if marks & {"property", "cached_property"} else "method"
    return Entry(
        f"{inside}.{node.name}" if inside else node.name,
        kind,
        module,
        node.lineno,
        ast.get_docstring(node) or "",
        parameters,
        returns,
        is_async=isinstance(node, ast.AsyncFunctionDef),
    )


def is_setter(node: Definition) -> bool:
    "Whether a method only sets a property, which is explained where it is read"
    return any(isinstance(d, ast.Attribute) and d.attr in ("setter", "deleter") for d in node.decorator_list)


def class_entry(node: ast.ClassDef, module: str, remarks: dict[int, str]) -> Entry:
    "A class with its fields, or what its `__init__` takes, and its public methods"
    entry = Entry(node.name, "class", module, node.lineno, ast.get_docstring(node) or "")
    for part in node.body:
        if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name) and not part.target.id.startswith("_"):
            entry.parameters.append(
                Parameter(
                    part.target.id, shown(part.annotation), shown(part.value), remarks.get(part.end_lineno or 0, "")
                )
            )
        elif isinstance(part, Definition) and part.name == "__init__":
            entry.parameters, _ = parameters_of(part, remarks, bound=True)
        elif isinstance(part, Definition) and not part.name.startswith("_") and not is_setter(part):
            entry.methods.append(function_entry(part, module, remarks, node.name))
    return entry


def as_wrapped(entry: Entry, node: Definition, found: dict[str, Entry]) -> Entry:
    "A function that stands for another one, `@functools.wraps(other)`, takes what that one takes"
    for d in node.decorator_list:
        if (
            isinstance(d, ast.Call)
            and shown(d.func).split(".")[-1] == "wraps"
            and (other := found.get(shown(d.args[0])))
        ):
            entry.parameters, entry.doc = other.parameters, entry.doc or other.doc
            entry.returns = entry.returns if entry.returns and entry.returns.meaning else other.returns
    return entry


def constant_entry(node: ast.Assign | ast.AnnAssign, name: str, module: str, remarks: dict[int, str]) -> Entry:
    value = shown(node.value)
    doc = remarks.get(node.end_lineno or 0) or remarks.get(node.lineno) or ""
    return Entry(name, "constant", module, node.lineno, doc, value=value if len(value) < 400 else value[:400] + " …")


def public_names(tree: ast.Module) -> list[str]:
    "What `__all__` says"
    for node in tree.body:
        if isinstance(node, ast.Assign) and shown(node.targets[0]) == "__all__":
            return ast.literal_eval(node.value)
    return []


def entries_of(path: Path) -> dict[str, Entry]:
    "The public names of a module"
    source = path.read_text(encoding="utf-8")
    tree, remarks = ast.parse(source), comments(source)
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    found: dict[str, Entry] = {}
    public = set(public_names(tree))
    for node in tree.body:
        if isinstance(node, Definition):
            found[node.name] = as_wrapped(function_entry(node, module, remarks), node, found)
        elif isinstance(node, ast.ClassDef):
            found[node.name] = class_entry(node, module, remarks)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {
                t.id: constant_entry(node, t.id, module, remarks)
                for t in targets
                if isinstance(t, ast.Name) and (t.id in public or t.id.isupper()) and t.id != "log"
            }
    return {
        name: entry for name, entry in found.items() if name in public or entry.kind == "constant" and name[0] != "_"
    }


def modules() -> dict[str, dict[str, Entry]]:
    "Every module of the package, by its name without the package, such as datasets.dataset"
    paths = sorted(p for p in PACKAGE.rglob("*.py") if p.name not in ("__init__.py", "_modidx.py"))
    return {".".join(p.relative_to(PACKAGE).with_suffix("").parts): entries_of(p) for p in paths}
