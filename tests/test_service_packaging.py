"""Dockerfile and compose.yaml: they parse, and their commands are run natively, since no Docker engine is at hand here."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import yaml

from vote_experiments.settings import VARIABLES

HOME = Path(__file__).parent.parent
INSTRUCTIONS = [re.match(r"([A-Z]+)\s+(.*)", line).groups() for line in (HOME / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
                if line.strip() and not line.startswith("#")]


def one(name: str) -> str:
    found, = [rest for instruction, rest in INSTRUCTIONS if instruction == name]
    return found


def test_the_dockerfile_installs_the_package_and_does_not_run_as_root():
    known = {"FROM", "RUN", "WORKDIR", "COPY", "USER", "ENV", "VOLUME", "EXPOSE", "HEALTHCHECK", "STOPSIGNAL", "CMD"}
    assert {i for i, _ in INSTRUCTIONS} <= known and INSTRUCTIONS[0][0] == "FROM"
    assert one("USER") != "root" and "[api,postgres]" in next(r for i, r in INSTRUCTIONS if i == "RUN" and "pip" in r)
    variables = dict(p.split("=", 1) for p in one("ENV").split())
    assert variables.keys() <= {v.name for v in VARIABLES}


def test_compose_is_valid_and_asks_for_its_secrets():
    done = subprocess.run([sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(HOME / "compose.yaml")],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    services = yaml.safe_load((HOME / "compose.yaml").read_text())["services"]
    api = services["fastapi-backend"]
    assert api["ports"] == ["127.0.0.1:8000:8000"] and api["command"] == json.loads(one("CMD"))
    assert api["environment"]["API_KEY"].startswith("${API_KEY:?") and "${POSTGRES_PASSWORD:?" in api["environment"]["VOTE_EXPERIMENTS_STORE"]
    ours = {v.name for v in VARIABLES}
    assert api["environment"].keys() <= ours


def test_the_command_and_the_health_check_work(tmp_path):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = str(s.getsockname()[1])
    command = [port if w == "8000" else "127.0.0.1" if w == "0.0.0.0" else w for w in json.loads(one("CMD"))]
    check = [w.replace("8000", port) for w in json.loads(re.search(r"CMD (\[.*\])", one("HEALTHCHECK"))[1])]
    places = {k: v.replace("/data", str(tmp_path)) for k, v in (p.split("=", 1) for p in one("ENV").split())}
    clean = {k: v for k, v in os.environ.items() if k not in {v.name for v in VARIABLES}}
    env = {**clean, **places, "API_KEY": "compose:a-key-for-the-test", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    server = subprocess.Popen(command, cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True)
    try:
        until = time.monotonic() + 90
        while subprocess.run(check, env=env, capture_output=True).returncode:
            assert server.poll() is None and time.monotonic() < until
            time.sleep(0.3)
        answer = httpx.get(f"http://127.0.0.1:{port}/api/v1/experiments/runs", headers={"X-API-Key": "a-key-for-the-test"})
        assert answer.json() == {"runs": []} and (tmp_path / ".vote_experiments" / "store.db").is_file()
    finally:
        server.send_signal(getattr(signal, one("STOPSIGNAL")))
        assert server.wait(30) in (0, -signal.SIGTERM)
    lines = [json.loads(line) for line in server.stderr.read().splitlines()]
    assert any("/api/v1/experiments/runs" == line.get("path") for line in lines)
    server.stderr.close()
