"""The package as someone gets it who never saw this repository: a wheel in an environment of its own"""

import json
import os
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path

import matplotlib
import pytest
import yaml

import vote_experiments

ROOT = Path(__file__).resolve().parents[1]
KEPT = ("PATH", "LANG", "LC_ALL", "SSL_CERT_FILE", "PIP_INDEX_URL", "PIP_CERT", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    "Built from what is in git, so that nothing lying about gets in"
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, capture_output=True)
    if archive.returncode:
        pytest.skip("not a git checkout")
    subprocess.run(["tar", "-x", "-C", str(source)], input=archive.stdout, check=True)
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", str(out), str(source)], check=True, capture_output=True
    )
    return next(out.glob("*.whl"))


def home_of(folder: Path) -> dict[str, str]:
    "An environment in which nothing leads back to the repository"
    return {**{k: os.environ[k] for k in KEPT if k in os.environ}, "HOME": str(folder), "VOTE_EXPERIMENTS_PLAIN": "1"}


def used(python: Path, folder: Path, **environment: str) -> Path:
    "What a newcomer does first, in an empty folder: the demo, then the report of its run"

    def run(*words: str) -> subprocess.CompletedProcess:
        done = subprocess.run(
            [str(python.parent / words[0]), *words[1:]],
            cwd=folder,
            env={**home_of(folder), **environment},
            capture_output=True,
            text=True,
            timeout=500,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    where = run("python", "-c", "import vote_experiments; print(vote_experiments.__file__)").stdout.strip()
    assert where.startswith(str(python.parent.parent)), where
    assert run("vote-experiments", "--version").stdout.split()[-1] == vote_experiments.__version__
    run("vote-experiments", "demo", "--quick")
    told = json.loads(run("vote-experiments", "report", "latest", "--json").stdout)
    assert told
    return next((folder / "runs").glob("*/report.html"))


@pytest.mark.timeout(900)  # a busy machine is no failure
def test_a_wheel_works_in_an_environment_of_its_own(wheel, tmp_path):
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    python = tmp_path / "venv/bin/python"
    site = next((tmp_path / "venv/lib").glob("python*")) / "site-packages"
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "--python",
            str(python),
            "install",
            "--quiet",
            "--no-deps",
            "--no-index",
            str(wheel),
        ],
        check=True,
    )
    # numpy and the like from here; Python does not follow the .pth files it finds there, such as the one to this repository
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    borrowed = {
        "JUPYTER_PATH": f"{sysconfig.get_path('data')}/share/jupyter",
        "MPLCONFIGDIR": matplotlib.get_cachedir(),
    }
    report = used(python, tmp_path, **borrowed)  # nbconvert's templates and the list of fonts belong to the libraries
    assert report.stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_wheel_brings_everything_it_needs(wheel, tmp_path):
    "With its dependencies from the network: nothing from here helps"
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv/bin/python"
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", str(wheel)], check=True)
    subprocess.run([str(python), "-m", "pip", "check"], check=True)
    assert used(python, tmp_path).exists()


def test_the_version_is_the_same_everywhere():
    version = vote_experiments.__version__
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert str(citation["version"]) == version and citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors", "license"} <= set(citation) and citation["type"] == "software"
    assert citation["authors"] == [{"name": "The vote_experiments authors"}]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert citation["license"] == project["license"] and project["authors"] == citation["authors"]
    assert f"\n## {version} (" in (ROOT / "CHANGELOG.md").read_text()
