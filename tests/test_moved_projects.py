"A project that was moved, or came from Windows, finds its page images again, and never a wrong one or one outside"

import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from vote_experiments.cli.main import app
from vote_experiments.datasets.dataset import get_dataset
from vote_experiments.datasets.saving import save_dataset
from vote_experiments.datasets.validation import validate_items
from vote_experiments.datasets.files import import_dataset
from vote_experiments.datasets.folders import import_folder
from vote_experiments.datasets.relocation import relocate_dataset
from vote_experiments.forms.pages import page_path
from vote_experiments.store.database import Store, StoreError
from vote_experiments.store.encoding import decode_json, encode_json


def _page(path, value=200):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((80, 60), value, np.uint8)).save(path)
    return path


@pytest.fixture
def project(tmp_path, monkeypatch):
    "A project with its store and two form sets in a folder of scans"
    home = tmp_path / "old" / "project"
    for i in range(2):
        _page(home / "scans" / f"f{i}_page1.png", 100 + i)
    monkeypatch.chdir(home)
    monkeypatch.delenv("VOTE_EXPERIMENTS_STORE", raising=False)
    (home / ".vote_experiments").mkdir()
    import_folder(home / "scans", "mine")
    return home


def problems(dataset):
    return [p.kind for p in validate_items(dataset) if p.severity == "error"]


def _move(project, to):
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(project, to)
    os.chdir(to)
    return to


def test_a_moved_project_is_whole(project, tmp_path):
    new = _move(project, tmp_path / "new" / "place" / "project")
    with Store(new / ".vote_experiments" / "store.db").read():
        pass
    dataset = get_dataset("mine")
    assert problems(dataset) == []
    for item in dataset.items:
        real = page_path(item.input["image_paths"][0], dataset.roots)
        assert real.is_relative_to(new) and real.name.startswith(item.id[:2])


def test_scans_that_were_moved_elsewhere_are_found_through_the_variable(project, tmp_path, monkeypatch):
    shutil.move(project / "scans", tmp_path / "archive")
    dataset = get_dataset("mine")
    assert problems(dataset) == ["missing_image"] * 2
    monkeypatch.setenv("VOTE_EXPERIMENTS_ROOTS", str(tmp_path / "archive"))
    assert problems(get_dataset("mine")) == []


def test_relocating_writes_the_new_place_and_changes_nothing_else(project, tmp_path):
    before = get_dataset("mine")
    shutil.move(project / "scans", tmp_path / "archive")
    after = relocate_dataset("mine", tmp_path / "archive").dataset
    assert after.version == before.version and [i.id for i in after.items] == [i.id for i in before.items]
    assert [i.input["image_paths"][0] for i in after.items] == [
        str(tmp_path / "archive" / f"f{i}_page1.png") for i in range(2)
    ]
    assert problems(after) == []
    assert import_folder(tmp_path / "archive", "mine").version == before.version  # the same content
    with pytest.raises(ValueError, match="is no folder"):
        relocate_dataset("mine", tmp_path / "nowhere")


def test_the_command_relocates(project, tmp_path):
    shutil.move(project / "scans", tmp_path / "archive")
    done = CliRunner().invoke(app, ["datasets", "relocate", "mine", str(tmp_path / "archive")])
    assert done.exit_code == 0 and "the pages of 2 items" in done.output
    assert problems(get_dataset("mine")) == []


def test_a_bare_name_or_a_file_outside_is_never_taken(tmp_path, monkeypatch):
    monkeypatch.chdir(_page(tmp_path / "here" / "page1.png").parent)
    _page(tmp_path / "secret" / "scans" / "page1.png")
    with pytest.raises((FileNotFoundError, PermissionError)):
        page_path("/gone/page1.png")
    with pytest.raises(PermissionError):
        page_path(tmp_path / "secret" / "scans" / "page1.png")
    with pytest.raises((FileNotFoundError, PermissionError)):
        page_path("/gone/../../secret/scans/page1.png")
    (tmp_path / "here" / "scans").symlink_to(tmp_path / "secret" / "scans")
    with pytest.raises(PermissionError):
        page_path("/gone/scans/page1.png")


def test_relative_paths_are_tried_in_the_allowed_folders(tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    page = _page(tmp_path / "archive" / "scans" / "p1.png")
    monkeypatch.setenv("VOTE_EXPERIMENTS_ROOTS", str(tmp_path / "archive"))
    assert page_path("scans/p1.png") == page.resolve()
    file = tmp_path / "work" / "items.jsonl"
    file.write_text(json.dumps({"id": "a", "input": {"image_paths": ["scans/p1.png"]}}))
    store = Store(tmp_path / "s.db")
    dataset = import_dataset(file, store=store)
    assert dataset.items[0].input["image_paths"] == [str(page.resolve())]
    store.close()


@pytest.mark.parametrize(
    "written",
    ["scans\\p1.png", ".\\scans\\p1.png", "C:\\Users\\ann\\project\\scans\\p1.png", "D:/project/scans/p1.png"],
)
def test_paths_from_windows(written, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = _page(tmp_path / "scans" / "p1.png")
    assert page_path(written) == page.resolve()
    file = tmp_path / "items.jsonl"
    file.write_text(json.dumps({"id": "a", "input": {"image_paths": [written]}}))
    store = Store(tmp_path / "s.db")
    assert import_dataset(file, store=store).items[0].input["image_paths"] == [str(page.resolve())]
    store.close()


# ------------------------------------------------------------------------------------------ the store
@pytest.mark.parametrize("name", ["a?b", "a%20b", "a#b", "a b", "ก"])
def test_a_store_may_be_in_a_folder_of_any_name(name, tmp_path, monkeypatch):
    store = Store(tmp_path / name / "store.db")
    save_dataset("d", [{"input": 1}], store=store)
    store.close()
    assert (tmp_path / name / "store.db").is_file() and sorted(os.listdir(tmp_path)) == [name]
    monkeypatch.setenv("VOTE_EXPERIMENTS_STORE", str(tmp_path / name / "store.db"))
    assert len(get_dataset("d")) == 1
    monkeypatch.setenv("VOTE_EXPERIMENTS_STORE", str(tmp_path / name))
    assert len(get_dataset("d")) == 1


def _as_another_user(work):
    "The lines that `work` returns in a process whose user may not write"
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.setuid(65534)
        try:
            lines = work()
        except BaseException as error:
            lines = [repr(error)]
        os.write(write, json.dumps(lines).encode())
        os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with os.fdopen(read, "rb") as pipe:
        return json.loads(pipe.read())


def _read_and_try_to_write(path):
    def work():
        store = Store(path)
        lines = [len(get_dataset("d", store=store))]
        try:
            save_dataset("e", [{"input": 1}], store=store)
        except StoreError as error:
            lines.append(str(error))
        return lines

    return work


@pytest.mark.skipif(os.getuid() != 0, reason="another user is needed who may not write")
def test_a_store_that_may_only_be_read_is_read(tmp_path):
    folder = tmp_path / "shared"
    store = Store(folder / "store.db")
    save_dataset("d", [{"input": i} for i in range(3)], store=store)
    store.close()
    for path in (tmp_path, *tmp_path.parents):
        if path.stat().st_uid == 0 and str(path).startswith("/tmp/"):
            path.chmod(0o755)
    folder.chmod(0o555), (folder / "store.db").chmod(0o444)
    n, refused = _as_another_user(_read_and_try_to_write(folder / "store.db"))
    assert n == 3 and "cannot be written" in refused and sorted(os.listdir(folder)) == ["store.db"]


@pytest.mark.parametrize("number", [2**63 - 1, 2**63, 2**64 - 1, 2**64, 2**64 + 1, -(2**63) - 1, 10**30 + 1, 10**299])
def test_whole_numbers_stay_whole(number, tmp_path):
    assert (
        decode_json(encode_json({"n": number})) == {"n": number}
        and type(decode_json(encode_json({"n": number}))["n"]) is int
    )
    store = Store(tmp_path / "s.db")
    save_dataset("d", [{"input": 1, "expected_output": {"n": number}}], store=store)
    assert get_dataset("d", store=store).items[0].expected_output == {"n": number}
    store.close()


# ----------------------------------------------------------------------------------------------- .env
ENV = "# ค่าของเรา\nVOTE_EXPERIMENTS_RUNS=here\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp874"])
def test_a_dot_env_in_any_encoding_that_editors_use(encoding, tmp_path, monkeypatch, caplog):
    from vote_experiments.settings import environment

    bom = b"\xff\xfe" if encoding == "utf-16-le" else b""
    (tmp_path / ".env").write_bytes(bom + ENV.encode(encoding))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VOTE_EXPERIMENTS_RUNS", raising=False)
    assert environment()["VOTE_EXPERIMENTS_RUNS"] == "here"
    assert (str(tmp_path / ".env") in caplog.text and "line 1" in caplog.text) is (encoding == "cp874")
