"""Dockerfile and compose.yaml: they parse, and their commands are run natively, since no Docker engine is at hand here."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest
import yaml

from promises import promise
from servers.loopback import kept_port
from vote_experiments.settings import VARIABLES

HOME = Path(__file__).parent.parent
INSTRUCTIONS = [
    re.match(r"([A-Z]+)\s+(.*)", line).groups()
    for line in (HOME / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    if line.strip() and not line.startswith("#")
]


def one(name: str) -> str:
    (found,) = [rest for instruction, rest in INSTRUCTIONS if instruction == name]
    return found


def test_the_dockerfile_installs_the_package_and_does_not_run_as_root():
    known = {"FROM", "RUN", "WORKDIR", "COPY", "USER", "ENV", "VOLUME", "EXPOSE", "HEALTHCHECK", "STOPSIGNAL", "CMD"}
    assert {i for i, _ in INSTRUCTIONS} <= known and INSTRUCTIONS[0][0] == "FROM"
    assert one("USER") != "root" and "[api,postgres,ui]" in next(
        r for i, r in INSTRUCTIONS if i == "RUN" and "pip" in r
    )
    variables = dict(p.split("=", 1) for p in one("ENV").split())
    assert variables.keys() <= {v.name for v in VARIABLES}


DOCUMENTED = """
DD_API_KEY=your-dd-api-key
DD_APP_KEY=your-dd-app-key
DD_SITE=datadoghq.com
DD_ENV=staging
DD_SERVICE=vote-extractor
API_KEY=your-api-key
API_BASE_URL=http://localhost:8000
GOOGLE_CLOUD_PROJECT=your-gcp-project
VERTEX_AI_LOCATION=europe-west4
"""

OTHER_PLATFORMS = """
GOOGLE_CLOUD_LOCATION=global
LANGFUSE_PUBLIC_KEY=pk-lf-1
LANGFUSE_SECRET_KEY=sk-lf-1
LANGFUSE_BASE_URL=https://langfuse.example.org
INTERACTIVEAI_PUBLIC_KEY=pk-1
INTERACTIVEAI_SECRET_KEY=sk-1
INTERACTIVEAI_BASE_URL=https://interactive.example.org
"""


def substituted(text: str, values: dict[str, str]) -> str:
    "A value of compose.yaml with its variables, as Compose replaces them. Raises KeyError for one that is required."

    def value(match: re.Match) -> str:
        name, operator, other = match[1], match[2] or "", match[3] or ""
        if operator == ":+":
            return other if values.get(name) else ""
        if operator == ":?" and not values.get(name):
            raise KeyError(f"{name}: {other}")
        return values.get(name) or other

    return re.sub(r"\$\{(\w+)(:[-+?])?([^}]*)\}", value, text)


def test_the_documented_env_file_is_enough_and_reaches_the_services():
    values = dict(line.split("=", 1) for line in DOCUMENTED.split())
    services = yaml.safe_load((HOME / "compose.yaml").read_text())["services"]
    api = {k: substituted(v, values) for k, v in services["fastapi-backend"]["environment"].items()}
    page = {k: substituted(v, values) for k, v in services["streamlit-frontend"]["environment"].items()}
    database = {k: substituted(v, values) for k, v in services["postgres"]["environment"].items()}
    sent = {k: api[k] for k in values.keys() & api.keys()}
    assert sent == {k: v for k, v in values.items() if k != "API_BASE_URL"}
    assert page["API_KEY"] == values["API_KEY"] and database["POSTGRES_PASSWORD"] in api["VOTE_EXPERIMENTS_STORE"]
    assert api["GOOGLE_APPLICATION_CREDENTIALS"] == "", "no file of credentials: the variable is empty"
    with pytest.raises(KeyError, match="API_KEY: set API_KEY"):
        [substituted(v, {}) for v in services["fastapi-backend"]["environment"].values()]
    volumes = [substituted(v, values) for v in services["fastapi-backend"]["volumes"]]
    assert "./scans:/scans:ro" in volumes and api["VOTE_EXPERIMENTS_ROOTS"] == "/scans"


def test_keys_of_other_platforms_and_googles_own_location_reach_the_backend():
    values = dict(line.split("=", 1) for line in (DOCUMENTED + OTHER_PLATFORMS).split())
    declared = yaml.safe_load((HOME / "compose.yaml").read_text())["services"]["fastapi-backend"]["environment"]
    api = {k: substituted(v, values) for k, v in declared.items()}
    assert {k: api.get(k) for k in values if k != "API_BASE_URL"} == {
        k: v for k, v in values.items() if k != "API_BASE_URL"
    }
    defaults = {v.name: v.default for v in VARIABLES if v.default}
    left_out = {k: substituted(v, {"API_KEY": "k"}) for k, v in declared.items()}
    for name in ("LANGFUSE_BASE_URL", "INTERACTIVEAI_BASE_URL", "DD_SITE", "DD_ENV", "DD_SERVICE"):
        assert left_out[name] == defaults[name]
    assert left_out["LANGFUSE_SECRET_KEY"] == left_out["GOOGLE_CLOUD_LOCATION"] == ""


def test_compose_is_valid_and_asks_for_its_secrets():
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "check_jsonschema",
            "--builtin-schema",
            "vendor.compose-spec",
            str(HOME / "compose.yaml"),
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    services = yaml.safe_load((HOME / "compose.yaml").read_text())["services"]
    api = services["fastapi-backend"]
    assert api["ports"] == ["127.0.0.1:8000:8000"] and api["command"] == json.loads(one("CMD"))
    assert (
        api["environment"]["API_KEY"].startswith("${API_KEY:?")
        and "${POSTGRES_PASSWORD:-" in api["environment"]["VOTE_EXPERIMENTS_STORE"]
    )
    page = services["streamlit-frontend"]
    assert page["network_mode"] == "host" and "ports" not in page, "reached from this machine only"
    ours = {v.name for v in VARIABLES} | {"GOOGLE_APPLICATION_CREDENTIALS"}
    assert api["environment"].keys() | page["environment"].keys() <= ours


@pytest.fixture
def port():
    with kept_port() as kept:
        yield str(kept)


@pytest.fixture
def here(tmp_path):
    "Folder and environment as in the image"
    places = {k: v.replace("/data", str(tmp_path)) for k, v in (p.split("=", 1) for p in one("ENV").split())}
    clean = {k: v for k, v in os.environ.items() if k not in {v.name for v in VARIABLES}}
    return tmp_path, {
        **clean,
        **places,
        "API_KEY": "compose:a-key-for-the-test",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }


def wait_until_healthy(service: subprocess.Popen, check: list[str], env: dict, log: Path) -> None:
    until = time.monotonic() + 120
    while subprocess.run(check, env=env, capture_output=True).returncode:
        assert service.poll() is None and time.monotonic() < until, log.read_text()
        time.sleep(0.3)


@promise("ci-and-packaging-8")
def test_the_command_and_the_health_check_of_the_api_work(here, port):
    folder, env = here
    command = [port if w == "8000" else "127.0.0.1" if w == "0.0.0.0" else w for w in json.loads(one("CMD"))]
    check = [w.replace("8000", port) for w in json.loads(re.search(r"CMD (\[.*\])", one("HEALTHCHECK"))[1])]
    with open(folder / "log", "w") as log:
        server = subprocess.Popen(command, cwd=folder, env=env, stderr=log, text=True)
    try:
        wait_until_healthy(server, check, env, folder / "log")
        answer = httpx.get(
            f"http://127.0.0.1:{port}/api/v1/experiments/runs", headers={"X-API-Key": "a-key-for-the-test"}
        )
        assert answer.json() == {"runs": []} and (folder / ".vote_experiments" / "store.db").is_file()
    finally:
        server.send_signal(getattr(signal, one("STOPSIGNAL")))
        code = server.wait(30)
    text = (folder / "log").read_text()
    assert code in (0, -signal.SIGTERM, 130), (code, text)  # stopped as by Ctrl-C
    lines = [json.loads(line) for line in text.splitlines()]
    assert any("/api/v1/experiments/runs" == line.get("path") for line in lines)


@promise("ci-and-packaging-8")
@pytest.mark.slow  # `vote-experiments ui` has tests of its own
@pytest.mark.skipif(find_spec("voila") is None, reason="needs Voilà")
def test_the_command_and_the_health_check_of_the_page_work(here, port):
    folder, env = here
    page = yaml.safe_load((HOME / "compose.yaml").read_text())["services"]["streamlit-frontend"]
    command = [port if w == "8501" else w for w in page["command"]]
    with open(folder / "log", "w+") as log:
        server = subprocess.Popen(command, cwd=folder, env=env, stderr=log, stdout=log, text=True)
        try:
            wait_until_healthy(
                server, [w.replace("8501", port) for w in page["healthcheck"]["test"][1:]], env, folder / "log"
            )
            assert f"http://127.0.0.1:{port}/?token=" in (folder / "log").read_text()
            assert httpx.get(f"http://127.0.0.1:{port}/").status_code in (302, 403), "no one gets in without the token"
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(30)
