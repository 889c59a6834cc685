"""Outcome checks over HTTP: the pages of a form, for those who hold the key, and from the allowed folders only"""

import io

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from typer.testing import CliRunner

from vote_experiments.cli.main import app
from vote_experiments.html.translations import Words
from vote_experiments.outcome.check import start_outcome_check
from vote_experiments.server.api import make_app
from vote_experiments.store.database import Store
from vote_experiments.widgets.outcome_panel import BeginCheck

KEY = "key-of-the-desk-123456"
CHECKS = "/api/v1/experiments/checks"


@pytest.fixture
def desk(tmp_path, monkeypatch):
    "A check of three stations, one with a page, one whose page is outside, one whose page is gone; and a client"
    (tmp_path / "scans").mkdir()
    Image.fromarray(np.full((1200, 900, 3), 200, np.uint8)).save(tmp_path / "scans" / "a.png")
    Image.fromarray(np.zeros((50, 50, 3), np.uint8)).save(tmp_path / "secret.png")
    monkeypatch.setenv("VOTE_EXPERIMENTS_ROOTS", str(tmp_path / "scans"))
    monkeypatch.chdir(tmp_path / "scans")
    pages = {"a": tmp_path / "scans" / "a.png", "b": tmp_path / "secret.png", "c": tmp_path / "scans" / "gone.png"}
    rows = [
        {"station": s, "choice": c, "votes": 100 + 50 * (c == "1"), "ballots": 300, "pages": str(path)}
        for s, path in pages.items()
        for c in "12"
    ]
    check = start_outcome_check(rows, store=str(tmp_path / "check.db"))
    with TestClient(make_app(str(tmp_path / "check.db"), KEY, runner="elsewhere")) as client:
        yield check, client


def test_a_page_is_an_image_for_those_who_hold_the_key(desk):
    check, client = desk
    where = f"{CHECKS}/{check.id}/page"
    assert client.get(where, params={"station": "a"}).status_code == 401
    client.headers["X-API-Key"] = KEY
    got = client.get(where, params={"station": "a"})
    assert got.status_code == 200 and got.headers["content-type"].startswith("image/")
    assert Image.open(io.BytesIO(got.content)).size == (900, 1200)


@pytest.mark.parametrize(
    "query",
    [
        {"station": "b"},
        {"station": "c"},
        {"station": "nowhere"},
        {"station": "a", "file": 2},
        {"station": "a", "number": 2},
        {"station": "../secret.png"},
    ],
)
def test_what_cannot_be_shown_is_404_and_names_no_folder(desk, tmp_path, query):
    check, client = desk
    client.headers["X-API-Key"] = KEY
    got = client.get(f"{CHECKS}/{check.id}/page", params=query)
    assert got.status_code == 404 and got.json()["detail"] and str(tmp_path) not in got.text


def test_a_short_seed_is_refused_wherever_a_person_types_it(desk, tmp_path, monkeypatch):
    "It could not be changed afterwards"
    check, client = desk
    client.headers["X-API-Key"] = KEY
    got = client.post(f"{CHECKS}/{check.id}/seed", json={"seed": "2718"})
    assert got.status_code == 422 and "20 digits" in got.text
    shell = CliRunner().invoke(app, ["check", "seed", "2718", "--store", str(tmp_path / "check.db")])
    assert shell.exit_code == 2 and "20 digits" in shell.output
    assert client.get(f"{CHECKS}/{check.id}").json()["seed"] is None
    assert client.post(f"{CHECKS}/{check.id}/seed", json={"seed": "27182 81828 45904 52353"}).status_code == 200


def test_the_panel_begins_a_check_with_stations_that_must_exist_and_first_ones(tmp_path):
    store = Store(tmp_path / "panel.db")
    (tmp_path / "readings.csv").write_text(
        "station,choice,votes,ballots\n"
        + "".join(f"{s},{c},{v},300\n" for s in "abc" for c, v in (("yes", 150), ("no", 90)))
    )
    begun = []
    panel = BeginCheck(store, Words("outcome", "en"), begun.append)
    panel.file.value, panel.contest.value, panel.rule.value = str(tmp_path / "readings.csv"), "referendum", "yes > no"
    panel.expected.value, panel.first.value = "a\nb\nc\nd\n", "c\n"
    assert "ve-hidden" in panel.seats._dom_classes and "ve-hidden" not in panel.rule._dom_classes
    panel.button.click()
    assert len(begun) == 1, panel.news.value
    assert begun[0].next(5, reader="Anong")[0] == "c" and begun[0].status().missing == ("d",)
    store.close()
