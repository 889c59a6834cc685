"""What holds for the project as a whole: its metadata, its imports, its notebooks, what it ships"""

import ast
import configparser
import importlib
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import vote_experiments
from vote_experiments import moved

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "vote_experiments"
NOTEBOOKS = sorted(p for p in (ROOT / "nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)
MODULES = sorted(p for p in PACKAGE.rglob("*.py") if p.name not in ("__init__.py", "_modidx.py"))
HEAVY = (
    "pandas",
    "numpy",
    "scipy",
    "matplotlib",
    "sqlalchemy",
    "pydantic",
    "ddtrace",
    "google.genai",
    "ipywidgets",
    "cv2",
    "opentelemetry",
    "fastapi",
    "typer",
)


def fresh(code: str) -> str:
    "What a new Python prints"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


# ── metadata ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_settings_ini_mirrors_pyproject():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    ini = configparser.ConfigParser()
    ini.read(ROOT / "settings.ini")
    mirror = ini["DEFAULT"]
    assert mirror["lib_name"] == project["project"]["name"]
    assert mirror["description"] == project["project"]["description"]
    assert mirror["version"] == vote_experiments.__version__
    assert mirror["keywords"].split() == project["project"]["keywords"]
    assert project["project"]["requires-python"] == f">={mirror['min_python']}"
    assert {k: mirror[k] for k in ("nbs_path", "lib_path")} == {
        k: project["tool"]["nbdev"][k] for k in ("nbs_path", "lib_path")
    }


CARD = {"nbdev", "jupyter", "ipywidgets", "pandas", "ddtrace", "google-genai", "matplotlib", "papermill", "pytest"}


def test_the_nine_packages_of_the_project_are_in_both_files():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    ini = configparser.ConfigParser()
    ini.read(ROOT / "settings.ini")
    mirrored = {*ini["DEFAULT"]["requirements"].split(), *ini["DEFAULT"]["dev_requirements"].split()}
    assert mirrored == CARD
    assert {re.split(r"[^\w-]", line)[0] for line in wanted} >= CARD


def test_licence_and_type_marker_are_shipped():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "Apache License" in (ROOT / "LICENSE").read_text()[:200]
    assert project["project"]["license"] == "Apache-2.0" and project["project"]["license-files"] == ["LICENSE"]
    assert (PACKAGE / "py.typed").exists()
    assert "py.typed" in project["tool"]["setuptools"]["package-data"]["vote_experiments"]


def test_every_font_has_its_licence_beside_it():
    fonts = sorted((PACKAGE / "forms/assets/fonts").glob("*.ttf"))
    assert fonts
    for font in fonts:
        assert (font.parent / f"LICENSE-{font.name.split('-')[0]}.txt").exists(), font.name


# ── importing the package ───────────────────────────────────────────────────────────────────────────────────────────


def test_importing_the_package_loads_nothing_heavy():
    loaded = fresh("import sys, vote_experiments; print(*sys.modules)").split()
    assert not set(HEAVY) & set(loaded)


def test_importing_the_package_is_quick():
    code = "import time; t = time.process_time(); import vote_experiments; print(time.process_time() - t)"  # a busy machine does not count
    assert min(float(fresh(code)) for _ in range(5)) < 0.2


@pytest.mark.parametrize("name", vote_experiments.__all__)
def test_every_exported_name_resolves(name):
    assert getattr(vote_experiments, name) is not None
    assert name in dir(vote_experiments)


STUBS = sorted(PACKAGE.rglob("__init__.pyi"))


@pytest.mark.parametrize("stub", STUBS, ids=named)
def test_type_checkers_see_what_python_loads(stub):
    imports = [node for node in ast.parse(stub.read_text()).body if isinstance(node, ast.ImportFrom)]
    package = importlib.import_module(".".join(stub.parent.relative_to(ROOT).parts))
    names = [alias.name for node in imports for alias in node.names]
    assert sorted(names) == sorted(set(package.__all__) - {"__version__"})
    assert all(alias.asname == alias.name for node in imports for alias in node.names), (
        "without `as`, a name is private to type checkers"
    )
    for node in imports:
        for alias in node.names:
            loaded = getattr(package, alias.name)
            assert not node.module or loaded is getattr(
                importlib.import_module(f"{package.__name__}.{node.module}"), alias.name
            )


def test_the_top_of_the_package_is_small():
    assert len(vote_experiments.__all__) <= 46  # 45 names and the version


@pytest.mark.parametrize("name", [*moved.PLACES, *moved.RENAMED])
def test_a_name_that_moved_still_works_and_says_where_it_is(name):
    with pytest.warns(DeprecationWarning, match=f"vote_experiments.{name} is now vote_experiments"):
        assert getattr(vote_experiments, name) is not None
    assert name not in vote_experiments.__all__


def test_a_misspelt_name_is_an_attribute_error_with_the_nearest_one():
    with pytest.raises(AttributeError, match="did you mean 'run_experiment'"):
        _ = vote_experiments.run_experimet
    with pytest.raises(ImportError):
        from vote_experiments import nothing_like_it  # noqa: F401
    assert not hasattr(vote_experiments, "__wrapped__")


# ── notebooks ───────────────────────────────────────────────────────────────────────────────────────────────────────


def cells(path: Path) -> list[dict]:
    return json.loads(path.read_text())["cells"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=named)
def test_a_notebook_begins_with_a_title_and_a_subtitle(path):
    first = next(c for c in cells(path) if c["cell_type"] == "markdown")
    assert re.match(r"# \S.*\n\n> \S", "".join(first["source"])), "".join(first["source"])[:80]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=named)
def test_a_notebook_keeps_its_outputs_small(path):
    for cell in cells(path):
        for output in cell.get("outputs", []):
            assert len(json.dumps(output, ensure_ascii=False)) < 200_000, "".join(cell["source"])[:80]
            assert output["output_type"] != "error", "".join(cell["source"])[:80]


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_a_module_is_exported_from_a_notebook(path):
    source = re.search(r"^# AUTOGENERATED! DO NOT EDIT! File to edit: (\S+\.ipynb)", path.read_text(), re.M)
    assert source, "written by hand"
    assert (path.parent / source[1]).resolve() in NOTEBOOKS


# ── what is committed ───────────────────────────────────────────────────────────────────────────────────────────────


def committed() -> list[Path]:
    found = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True)
    if found.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / n for n in found.stdout.decode().split("\0") if n and (ROOT / n).is_file()]


def test_nothing_names_the_place_where_it_was_written():
    places = re.compile("|".join(["/" + "work/", r"\.\./" + "shared", "/tmp" + "/s/", "/root" + r"/(?!\.)"]).encode())
    found = {
        named(p): places.search(p.read_bytes()) for p in committed() if p.suffix not in (".ttf", ".npz", ".traineddata")
    }
    assert not {n: m[0] for n, m in found.items() if m}


def test_no_large_file_is_committed():
    assert not {named(p): p.stat().st_size for p in committed() if p.stat().st_size > 2_000_000}


# ── commands that people and CI type ────────────────────────────────────────────────────────────────────────────────

COMMANDS = (
    "python3 -m venv .venv && .venv/bin/pip install -e . && .venv/bin/vote-experiments demo",
    "python3 -m venv .venv && .venv/bin/pip install -e '.[dev]' && .venv/bin/python -m pytest",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_readme_has_both_commands_each_on_a_line_of_its_own(command):
    assert command in (ROOT / "README.md").read_text().splitlines()


def test_every_picture_and_file_the_readme_names_is_committed():
    text = (ROOT / "README.md").read_text()
    targets = [t for t in re.findall(r"\]\(([^)#\s]+)|src=\"([^\"]+)\"", text) for t in t if t and "://" not in t]
    assert any(t.endswith((".png", ".jpg")) for t in targets)
    assert not [t for t in targets if not (ROOT / t).is_dir() and (ROOT / t) not in committed()]


def test_ci_runs_what_a_person_runs():
    script = ROOT / ".ci/run"
    assert script.stat().st_mode & 0o111, "not executable"
    subprocess.run(["bash", "-n", script], check=True)
    text, workflow = script.read_text(), (ROOT / ".github/workflows/ci.yml").read_text()
    assert "pip install -qq -e '.[dev]'" in text and text.rstrip().endswith("python -m pytest")
    assert ".ci/run" in workflow and '"3.11", "3.12"' in workflow
