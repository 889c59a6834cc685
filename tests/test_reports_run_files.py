"""A run in one file: complete, idempotent, in conflict, hostile."""

import json
import zipfile
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

from promises import promise
from vote_experiments.reports import run_files
from vote_experiments.datasets.saving import delete_dataset, save_dataset
from vote_experiments.datasets.dataset import get_dataset, list_datasets
from vote_experiments.store.results import ResultSequence
from vote_experiments.store.runs import delete_experiment, delete_group, get_experiment, list_experiments, list_groups
from vote_experiments.reports.run_files import RunFileError, import_run, share_run
from vote_experiments.store.database import Store
from vote_experiments.store.maintenance import check_store
from vote_experiments.store.tables import experiments, item_results, observations, schema, scores, trace_tags, traces
from vote_experiments.experiments.comparison import run_model_experiments
from vote_experiments.engine.stored_comparison import compare_experiments_by_item
from vote_experiments.models.registry import forget_model, register_model
from vote_experiments.settings import VARIABLES

TRUTH = {"form_info": {"form_type": "Constituency"}, "vote_results": [{"number": 1, "vote_count": 200}]}
WRONG = {**TRUTH, "vote_results": [{"number": 1, "vote_count": 100}]}


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    "A run of two readers over a dataset with pages, and its file"
    home = tmp_path_factory.mktemp("mine")
    with pytest.MonkeyPatch.context() as patch:
        for variable in VARIABLES:
            patch.delenv(variable.name, raising=False)
        patch.setenv("VOTE_EXPERIMENTS_RUNS", str(home / "runs"))
        patch.setenv("VOTE_EXPERIMENTS_PLAIN", "1")
        (home / "scans").mkdir()
        for i in range(6):
            Image.new("L", (40, 60), i).save(home / "scans" / f"{i}.png")
        store = Store(home / "store.db")
        save_dataset(
            "stations",
            [
                {
                    "id": f"f{i}",
                    "input": {"image_paths": [f"{i}.png"]},
                    "expected_output": TRUTH,
                    "metadata": {"level": "แย่"},
                }
                for i in range(6)
            ],
            root=home / "scans",
            store=store,
        )

        def half(images, config):
            if str(images[0]).endswith("5.png"):
                raise ValueError("the page is torn")
            return {"reports": [TRUTH if str(images[0]).endswith(("0.png", "2.png")) else WRONG]}

        register_model("all", lambda images, config: {"reports": [TRUTH]})
        register_model("half", half)
        result = run_model_experiments(
            dataset_name="stations",
            model_configs=[{"model": "all"}, {"model": "half", "metadata": {"who": "me"}}],
            raise_errors=False,
            show_comparison=False,
            store=store,
            cache=False,
        )
        forget_model("all"), forget_model("half")
        found = share_run(result["group_id"], home / "a.run.zip", store, pages=True)
    yield store, result, found
    store.close()


def rows(store, table):
    skip = {"owner", "heartbeat", "url", "archive", "item_row", "dataset_id", "input"} | (
        {"id"} if table is scores else set()
    )
    columns = [c for c in table.columns if c.name not in skip]
    with store.read() as c:
        return sorted(map(repr, c.execute(sa.select(*columns)).all()))


@promise("command-line-30")
def test_another_store_has_the_run_as_if_it_had_been_made_there(shared, store, tmp_path):
    mine, result, file = shared
    taken = import_run(file.path, store, pages_into=tmp_path / "pages")
    assert (taken.experiments, taken.known, taken.items, taken.pages, taken.datasets) == (
        2,
        0,
        12,
        6,
        ["stations version 1"],
    )
    for table in (experiments, item_results, traces, trace_tags, observations, scores):
        assert rows(store, table) == rows(mine, table), table.name
    its = [e["id"] for e in list_experiments(store)]
    found, original = (list(ResultSequence(s, its[1], None)) for s in (store, mine))
    assert [(r.item.expected_output, r.item.metadata, r.output, str(r.error)) for r in found] == [
        (r.item.expected_output, r.item.metadata, r.output, str(r.error)) for r in original
    ]
    assert [Path(p).is_file() for r in found for p in r.item.input["image_paths"]] == [True] * 6
    names = {get_experiment(store, e)["name"]: e for e in its}
    assert compare_experiments_by_item(store, names).to_dict() == compare_experiments_by_item(mine, names).to_dict()
    assert check_store(store) == []
    assert list_groups(store)[0]["result"]["headline"] == result["headline"]


@promise("command-line-31")
def test_twice_is_once_and_a_deleted_half_comes_back(shared, store, tmp_path):
    _, result, file = shared
    import_run(file.path, store, pages_into=tmp_path / "pages")
    before = {t: rows(store, t) for t in schema.tables.values() if t.name not in ("store_info",)}
    again = import_run(file.path, store, pages_into=tmp_path / "pages")
    assert (again.experiments, again.known, again.items, again.pages) == (0, 2, 0, 0)
    assert {t: rows(store, t) for t in before} == before
    delete_experiment(store, result["experiments"][1]["experiment_id"])
    half = import_run(file.path, store, pages_into=tmp_path / "pages")
    assert (half.experiments, half.known, half.items) == (1, 1, 6) and len(list_experiments(store)) == 2
    assert share_run(result["group_id"], tmp_path / "again.run.zip", store).items == 12, (
        "shared on, from a store that got it"
    )


@promise("command-line-32")
def test_conflicts_are_named_and_nothing_is_changed(shared, sqlite_store, tmp_path):
    store, (_, result, file) = sqlite_store, shared
    save_dataset("stations", [{"id": "x", "input": 1}], store=store)
    with pytest.raises(ValueError, match="other items than the run was made on.*--dataset stations-of-the-run"):
        import_run(file.path, store, pages_into=tmp_path / "p")
    assert list_experiments(store) == [] and not (tmp_path / "p").exists()
    assert import_run(file.path, store, dataset_name="theirs", pages_into=tmp_path / "p").datasets == [
        "theirs version 1"
    ]
    assert {e["dataset_name"] for e in list_experiments(store)} == {"theirs"} and len(
        get_dataset("stations", store=store)
    ) == 1
    with store.write() as c:
        c.execute(sa.update(scores).where(scores.c.value_number == 1).values(value_number=0.5))
    its = [e["experiment_id"] for e in result["experiments"]]
    with pytest.raises(ValueError, match=f"({'|'.join(its)}) is in this store with other results.*runs delete"):
        import_run(file.path, store)
    delete_group(store, result["group_id"]), delete_dataset("theirs", force=True, store=store)
    (tmp_path / "q").mkdir()
    (tmp_path / "q" / "3.png").write_bytes(b"mine")
    with pytest.raises(ValueError, match="exists with another content.*--pages-into"):
        import_run(file.path, store, pages_into=tmp_path / "q")
    assert (tmp_path / "q" / "3.png").read_bytes() == b"mine" and [d.name for d in list_datasets(store)] == ["stations"]


def changed(file, target, change):
    "The file with some members changed: `change` gets a dict of bytes by name"
    with zipfile.ZipFile(file) as z:
        members = {n: z.read(n) for n in z.namelist()}
    change(members)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as z:
        for name, content in members.items():
            z.writestr(name, content)
    return target


def in_manifest(edit):
    def change(members):
        manifest = json.loads(members["manifest.json"])
        edit(manifest)
        members["manifest.json"] = json.dumps(manifest).encode()

    return change


def in_rows(table, **values):
    def change(members):
        lines = members[f"rows/{table}.jsonl"].splitlines()
        lines[0] = json.dumps(json.loads(lines[0]) | values).encode()
        members[f"rows/{table}.jsonl"] = b"\n".join(lines)

    return change


def page_named(name):
    def edit(manifest):
        pages = manifest["datasets"][0]["pages"]
        pages[name] = pages.pop("0.png")

    return in_manifest(edit)


HOSTILE = {
    "a path in the archive": (lambda m: m.update({"../evil.txt": b"x"}), "does not belong"),
    "a page that climbs out": (page_named("../../evil.png"), "not below its dataset's folder"),
    "a page with an absolute path": (page_named("/etc/evil.png"), "not below its dataset's folder"),
    "a page for Windows": (page_named("..\\evil.png"), "not below its dataset's folder"),
    "a page that is a program": (page_named("evil.py"), "no page image"),
    "a page changed on the way": (
        lambda m: m.update({next(n for n in m if n.startswith("pages/")): b"other"}),
        "not what the manifest says",
    ),
    "a page left out": (lambda m: m.pop(next(n for n in m if n.startswith("pages/"))), "is missing"),
    "no manifest": (lambda m: m.pop("manifest.json"), "no readable manifest"),
    "a manifest that is a list": (lambda m: m.update({"manifest.json": b"[]"}), "does not say"),
    "a deep manifest": (lambda m: m.update({"manifest.json": b"[" * 200_000}), "no readable manifest"),
    "a newer format": (in_manifest(lambda m: m.update(version=2)), "upgrade vote-experiments"),
    "a newer schema": (in_manifest(lambda m: m.update(schema=99)), "upgrade vote-experiments"),
    "other experiments": (in_manifest(lambda m: m.update(experiments={"exp_x": "0"})), "name different experiments"),
    "a table left out": (lambda m: m.pop("rows/scores.jsonl"), "rows/scores.jsonl is missing"),
    "an unknown column": (in_rows("experiments", shell="rm"), "no column 'shell'"),
    "a column of another machine": (in_rows("experiments", owner="you:1:x"), "no column 'owner'"),
    "a run that seems to go on": (in_rows("experiments", status="running"), "status is 'running'"),
    "a number that is text": (in_rows("item_results", attempts="1"), "attempts is str, not int"),
    "a huge number": (in_rows("item_results", prompt_tokens=10**30), "prompt_tokens is"),
    "JSON that is none": (in_rows("experiments", config="{"), "config is no JSON"),
    "an id that is a path": (in_rows("experiments", id="../../x"), "is no id"),
    "a score under another's trace": (in_rows("scores", trace_id="0" * 32), "is not of this file"),
    "a score under another's experiment": (in_rows("scores", experiment_id="exp_yours"), "is not of this file"),
    "a row that is a number": (lambda m: m.update({"rows/traces.jsonl": b"7"}), "a row must be an object"),
    "bytes that are no text": (lambda m: m.update({"rows/traces.jsonl": b"\xff\xfe"}), "cannot be read"),
}


@promise("command-line-33")
@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_file_is_refused_in_words_and_leaves_nothing(shared, sqlite_store, tmp_path, what):
    change, said = HOSTILE[what]
    (tmp_path / "in").mkdir()
    evil = changed(shared[2].path, tmp_path / "in" / "evil.zip", change)
    with pytest.raises(ValueError, match=said):
        import_run(evil, sqlite_store, pages_into=tmp_path / "in" / "pages")
    assert list_experiments(sqlite_store) == list_datasets(sqlite_store) == list_groups(sqlite_store) == []
    assert {p.name for p in tmp_path.rglob("*")} == {"in", "evil.zip"}


@promise("command-line-33")
def test_huge_damaged_and_other_files_are_refused(shared, sqlite_store, tmp_path, monkeypatch):
    for name, content in (
        ("text.zip", b"hello"),
        ("empty.zip", b""),
        ("half.zip", Path(shared[2].path).read_bytes()[:900]),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(RunFileError, match="is no shared run"):
            import_run(tmp_path / name, sqlite_store)
    with pytest.raises(FileNotFoundError):
        import_run(tmp_path / "none.zip", sqlite_store)
    bomb = changed(shared[2].path, tmp_path / "bomb.zip", lambda m: m.update({"rows/traces.jsonl": b" " * 5_000_000}))
    assert bomb.stat().st_size < 100_000
    monkeypatch.setattr(run_files, "MOST_BYTES", 4_000_000)
    with pytest.raises(RunFileError, match="unpacks to"):
        import_run(bomb, sqlite_store)


@promise("command-line-33")
def test_a_link_does_not_lead_a_page_out(shared, sqlite_store, tmp_path):
    (tmp_path / "pages").mkdir(), (tmp_path / "elsewhere").mkdir()
    deep = changed(shared[2].path, tmp_path / "deep.zip", page_named("link/0.png"))
    (tmp_path / "pages" / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunFileError, match="a link leads there"):
        import_run(deep, sqlite_store, pages_into=tmp_path / "pages")
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.fixture(scope="module")
def spare(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("spare") / "s.db")
    yield store
    store.close()


@given(data=st.data())
@settings(max_examples=40, phases=[Phase.generate])
def test_whatever_bytes_are_changed_nothing_but_a_refusal_happens(shared, spare, data):
    raw, path = bytearray(Path(shared[2].path).read_bytes()), spare.path.parent / "a.zip"
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw)
    try:
        import_run(path, spare, pages_into=spare.path.parent / "p")
    except ValueError as refused:
        assert str(refused) and list_experiments(spare) == []
    else:  # a byte that does not matter
        delete_group(spare, shared[1]["group_id"])


@promise("command-line-34")
def test_no_secret_and_no_folder_of_the_machine_travels(shared, tmp_path, monkeypatch):
    monkeypatch.setenv("GEMINI_API_KEY", "planted-share-secret-0123456")
    store, (mine, _, file) = Store(tmp_path / "s.db"), shared
    import_run(file.path, store, pages_into=tmp_path / "p")
    with store.write() as c:
        c.execute(
            sa.update(item_results)
            .where(item_results.c.status == "failed")
            .values(error_message="key planted-share-secret-0123456")
        )
    share_run("latest", tmp_path / "b.run.zip", store)
    for path, folder in ((file.path, mine.path.parent), (tmp_path / "b.run.zip", tmp_path)):
        with zipfile.ZipFile(path) as z:
            said = b"".join(z.read(n) for n in z.namelist() if n.endswith((".jsonl", ".json")) and "groups" not in n)
        assert (
            b"planted-share-secret" not in said
            and str(folder / "scans").encode() not in said
            and str(folder / "p").encode() not in said
        )
    store.close()
