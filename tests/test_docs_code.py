"""Every block of code in README.md, CONTRIBUTING.md and the prose of the notebooks does what it says.

A block is executed here, or it is a code cell of a notebook (then nbdev-test executes it), or it is listed in `ELSEWHERE`
with the reason and what shows it instead. A block without a language is a sketch: its commands are executed; of other calls it
is checked that what they name exists, since the cells below them make them. Python blocks of a document share one namespace, which begins with the names of
the notebook's own module; `vote-experiments` commands go through the real command line. All share one folder and one
store with small datasets; a stand-in answers for the offline readers, which tests of their own make read.
"""

import builtins
import importlib
import json
import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from servers.datadog_server import DatadogServer
from typer.testing import CliRunner

import vote_experiments as ve
from vote_experiments.moved import PLACES
from vote_experiments.cli.main import app
from vote_experiments.settings import OFFLINE_MODELS

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted(
    p
    for p in (ROOT / "nbs").rglob("*.ipynb")
    if not any(part.startswith((".", "_")) for part in p.parts[len(ROOT.parts) :])
)
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.M | re.S)

ELSEWHERE = {  # the beginning of a line -> why it is not executed here, and where it is
    "python3 -m venv .venv": "installs from the network: .ci/run executes the second, tests/test_wheel.py what the first leads to",
    ".ci/run": "is what runs these tests",
    ".venv/bin/python -m pytest": "is what runs these tests",
    "VOTE_EXPERIMENTS_TEST_POSTGRES=": "the same with a server: .ci/run starts one",
    "vote-experiments demo": "reads 52 pages: tests/test_wheel.py runs demo --quick in an installed wheel",
    "export API_KEY=": "a server: tests/test_server_api.py starts one with keys",
    "vote-experiments serve": "a server that stays: tests/test_server_api.py starts one",
    "API_KEY=": "a server that stays: tests/test_server_api.py starts one",
    "vllm serve": "another project's server: the notebook talks to a stand-in for it",
    "curl ": "asks that server: tests/test_server_api.py does so with httpx",
    "with ExperimentsClient(": "asks a server: tests/test_server_api.py starts one for the client",
    ".venv/bin/python .ci/docs.py": "a step of .ci/run",
    "vote-experiments race --dataset forms -m gemini": "needs a Gemini key: tests/test_cli_main.py and the race's own run one",
    "- run: pip install": "steps of a workflow with a Gemini key: tests/test_github_workflow.py executes such steps",
    "export DD_API_KEY=": "keys of the reader's own account",
}
INSTEAD = {
    "-n 20": "-n 1",
    "import-folder scans/ my-forms": "import-folder scans/ my-forms --yes",
}  # shorter; no one is there to ask
COMMANDS = ("vote-experiments", "export ")
PLATFORM = ("nbs/cli/07_publish.ipynb", "nbs/tutorials/06_datadog.ipynb")  # these talk to a stand-in for Datadog


@dataclass(frozen=True)
class Document:
    name: str
    blocks: tuple[tuple[str, str], ...]  # language, text
    module: str = ""


def prose(notebook: Path) -> str:
    return "\n\n".join(
        "".join(c["source"]) for c in json.loads(notebook.read_text())["cells"] if c["cell_type"] == "markdown"
    )


def code_cells() -> set[str]:
    "All code cells without their directives, as nbdev-test executes them"
    cells = (c for n in NOTEBOOKS for c in json.loads(n.read_text())["cells"] if c["cell_type"] == "code")
    return {re.sub(r"^#\|.*\n?", "", "".join(c["source"]), flags=re.M).strip() for c in cells}


def documents() -> list[Document]:
    tested = code_cells()
    texts = {n: (ROOT / n).read_text() for n in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md") if (ROOT / n).exists()}
    texts |= {
        str(n.relative_to(ROOT)): prose(n) for n in NOTEBOOKS if n.name != "index.ipynb"
    }  # README.md is made from that
    found = []
    for name, text in texts.items():
        blocks = tuple((language, block) for language, block in FENCE.findall(text) if block.strip() not in tested)
        module = (
            re.search(r"#\| default_exp (\S+?)(?:\\n|\")", (ROOT / name).read_text())
            if name.endswith(".ipynb")
            else None
        )
        if blocks:
            found.append(Document(name, blocks, f"vote_experiments.{module[1]}" if module else ""))
    return found


DOCUMENTS = documents()


def reason(line: str) -> str | None:
    return next((why for start, why in ELSEWHERE.items() if line.strip().startswith(start)), None)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    "A folder with scans, a dataset file, datasets and a finished run, and an environment without credentials"
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in (
            "VOTE_EXPERIMENTS_STORE",
            "VOTE_EXPERIMENTS_RUNS",
            "DD_API_KEY",
            "DD_APP_KEY",
            "GEMINI_API_KEY",
            "API_KEY",
        ):
            patch.delenv(name, raising=False)
        patch.chdir(folder)
        patch.setenv("VOTE_EXPERIMENTS_PLAIN", "1")
        drawn = ve.synthesize_dataset(1, seed=77, level="clean", kind="Constituency", out_dir="drawn")
        for name in ("forms", "my-forms", "stations", "golden-v1", "golden", "station-2"):
            ve.import_dataset(drawn, name)
        shutil.copytree("drawn/pages", "scans")
        record = json.loads(drawn.read_text())
        for r in record["records"]:
            r["input"]["image_paths"] = [f"drawn/{p}" for p in r["input"]["image_paths"]]
        Path("forms.json").write_text(
            json.dumps({**record, "metadata": {**record.get("metadata", {}), "name": "forms"}})
        )
        Path("weekly.yaml").write_text(
            yaml.safe_dump(
                {
                    "dataset_name": "forms",
                    "backend": "local",
                    "model_configs": [{"model": "ocr-digits", "temperature": 0.0}],
                }
            )
        )
        answer = record["records"][0]["ground_truth"]
        for name in OFFLINE_MODELS:  # as the readers, but at once
            ve.register_model(
                name, lambda images, config: {"reports": answer if isinstance(answer, list) else [answer]}
            )
        for _ in range(2):  # latest and the one before it
            ve.run_model_experiments(
                dataset_name="forms",
                model_configs=[{"model": "ocr-digits", "temperature": 0.0}],
                backend="local",
                show_comparison=False,
                progress=False,
            )
        yield folder
        for name in (*OFFLINE_MODELS, "mine"):
            ve.forget_model(name)


@pytest.fixture(scope="module")
def platform():
    with DatadogServer() as server:
        yield server


def run_line(line: str) -> None:
    "One command of a shell"
    for written, done_here in INSTEAD.items():
        line = line.replace(written, done_here)
    words = shlex.split(re.split(r"\s{3,}", line.strip())[0], comments=True)
    target = None
    if ">" in words:
        words, target = words[: words.index(">")], words[-1]
    assert words[0] == "vote-experiments", f"not a command of ours, and not in ELSEWHERE: {line}"
    done = CliRunner().invoke(app, words[1:])
    excused = 1 if words[1] == "gate" else 0  # a gate may well say no
    assert done.exit_code in (0, excused), f"{line}\n{done.output}"
    if target:
        Path(target).write_text(done.stdout)


def names(document: Document) -> dict:
    "What Python blocks may use: the notebook's own module, and what its reader has at hand"
    given = {name: getattr(ve, name) for name in ve.__all__}
    given |= {
        name: getattr(importlib.import_module(f"vote_experiments.{module}"), name) for name, module in PLACES.items()
    }
    given |= dict(vars(importlib.import_module(document.module))) if document.module else {}
    if document.name.endswith("03_opentelemetry.ipynb"):
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor

        given |= {"provider": TracerProvider(), "BatchSpanProcessor": SimpleSpanProcessor}
    return given | {"__name__": "block"}


def unknown_calls(text: str, document: Document, namespace: dict) -> list[str]:
    "What a sketch calls that no one defines: not its notebook, not the package, not Python"
    source = (ROOT / document.name).read_text()
    called = set(re.findall(r"(?<![.\w])([A-Za-z_]\w*)\(", text))
    return sorted(
        n
        for n in called
        if n not in namespace
        and not hasattr(builtins, n)
        and not re.search(rf"\b(?:def|class) {n}\b|\b{n} *=|import [^\n]*\b{n}\b", source)
    )


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: d.name)
def test_blocks_of_code_run(document, home, platform, request):
    if document.name in PLATFORM:
        environment = platform.environment()
        environment.__enter__()
        request.addfinalizer(lambda: environment.__exit__(None, None, None))
    namespace = names(document)
    for language, text in document.blocks:
        lines = [line for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
        if not language and not lines[0].startswith(COMMANDS) and not reason(lines[0]):
            assert not unknown_calls(text, document, namespace), text
            continue
        if reason(lines[0]) and not lines[0].startswith(COMMANDS):
            continue
        if language == "yaml":
            sweep = home / "block.yaml"
            sweep.write_text(text)
            run_line(f"vote-experiments sweep {sweep} --dry-run")
        elif language in ("python", "py"):
            latest = ve.list_groups()[0]["id"]
            exec(compile(text.replace("grp_…", latest), document.name, "exec"), namespace)
        else:
            for line in lines:
                if not reason(line):
                    run_line(line)


def test_every_excuse_is_needed():
    lines = [line.strip() for d in DOCUMENTS for _, text in d.blocks for line in text.splitlines()]
    assert not [start for start in ELSEWHERE if not any(line.startswith(start) for line in lines)]
