"""Imports go down only: the order of the packages, late imports and those for type checkers included"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "vote_experiments"
LEVELS = [  # from the bottom to the top; packages of one level may import from each other where that makes no circle
    {"settings", "records", "workers", "files", "documented"},
    {"forms", "store"},
    {"synthesis", "ocr", "datasets", "traces", "html"},
    {"models"},
    {"scoring"},
    {"analysis"},
    {"engine", "outcome"},
    {"platforms", "reports"},
    {"experiments"},
    {"compat", "server"},
    {"widgets"},
    {"cli"},
    {"workflow", "evaluators", "judges", "truth", "plots", "errors", "moved"},
]
LEVEL_OF = {package: level for level, packages in enumerate(LEVELS) for package in packages}
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.name != "_modidx.py"
}


def package_of(module: str) -> str | None:  # None: the top of the package
    return module.split(".")[1] if "." in module else None


def base_of(module: str, path: Path, node: ast.ImportFrom) -> str:
    "The absolute name of what follows `from`"
    if not node.level:
        return node.module or ""
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    kept = package[: len(package) - node.level + 1]
    return ".".join([*kept, *(node.module or "").split(".")]).rstrip(".")


def imported(module: str, path: Path) -> Iterator[str]:
    "Modules of this package that a module imports anywhere in its code"
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = base_of(module, path, node)
            names = [f"{base}.{alias.name}" if f"{base}.{alias.name}" in MODULES else base for alias in node.names]
        else:
            continue
        yield from (name for name in names if name in MODULES and name not in (module, "vote_experiments"))


GRAPH = {module: sorted(set(imported(module, path))) for module, path in MODULES.items()}


def test_every_package_has_a_level():
    assert {package_of(m) for m in MODULES} - {None} <= set(LEVEL_OF)


@pytest.mark.parametrize("module", [m for m in MODULES if package_of(m)])
def test_imports_go_down(module):
    level = LEVEL_OF[package_of(module)]
    above = [other for other in GRAPH[module] if package_of(other) and LEVEL_OF[package_of(other)] > level]
    assert not above, f"{module} imports from above: {above}"


def test_no_module_imports_itself_through_others():
    state: dict[str, str] = {}
    circles: list[list[str]] = []

    def visit(module: str, path: list[str]) -> None:
        state[module] = "open"
        for other in GRAPH[module]:
            if state.get(other) == "open":
                circles.append([*path[path.index(other) :], other] if other in path else [module, other])
            elif other not in state:
                visit(other, [*path, other])
        state[module] = "done"

    for module in GRAPH:
        if module not in state and package_of(module):
            visit(module, [module])
    assert not circles
