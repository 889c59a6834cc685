"""Datasets: versions that never change, items by id, reading in pages, differences, validation"""

import copy
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings, strategies as st
from PIL import Image

from vote_experiments.datasets import dataset as d
from vote_experiments.datasets import changes
from vote_experiments.datasets import items as item_records
from vote_experiments.datasets import saving
from vote_experiments.datasets import validation as dataset_validation
from vote_experiments.store.database import Store
from vote_experiments.store.tables import dataset_items, experiments
from vote_experiments.records import DatasetItem

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


def item(i, votes=0, **more):
    return {"id": f"f{i:03}", "input": {"form_set_name": f"f{i:03}", "n": i}, "ground_truth": {"votes": votes}, **more}


def rows(store):
    with store.read() as c:
        return [
            tuple(r)
            for r in c.execute(
                sa.select(
                    dataset_items.c.item_id,
                    dataset_items.c.row_id,
                    dataset_items.c.version_from,
                    dataset_items.c.version_to,
                ).order_by(dataset_items.c.row_id)
            )
        ]


# Versions --------------------------------------------------------------------------------------------------------


def test_only_changes_make_a_version_and_unchanged_items_keep_their_row(store):
    one = saving.save_dataset("a", [item(0), item(1), item(2)], store=store, provenance={"by": "test"})
    before = rows(store)
    same = saving.save_dataset("a", [item(2), item(0)], store=store)
    assert (one.version, same.version, rows(store)) == (1, 1, before)
    two = saving.save_dataset("a", [item(1, 5), item(3)], store=store)
    after = rows(store)
    assert two.version == 2 and after[0] == before[0] and after[2] == before[2]
    assert after[1] == (*before[1][:3], 2) and [r[2] for r in after[3:]] == [2, 2]
    assert [(i.id, i.expected_output["votes"]) for i in two.items] == [
        ("f000", 0),
        ("f001", 5),
        ("f002", 0),
        ("f003", 0),
    ]
    assert [i.expected_output["votes"] for i in d.get_dataset("a", 1, store).items] == [0, 0, 0]
    assert one.provenance == {"by": "test"} and two.provenance is None


def test_description_metadata_and_order_of_keys_make_no_version(store):
    saving.save_dataset(
        "a", [{"id": "x", "input": {"p": 1, "q": 2}}], store=store, description="first", metadata={"k": 1}
    )
    again = saving.save_dataset("a", [{"id": "x", "input": {"q": 2, "p": 1}}], store=store, description="second")
    assert (again.version, again.description, again.metadata) == (1, "second", {"k": 1})


@pytest.mark.parametrize("old, new", [(1, 1.0), (1, True), (None, {}), ("1", 1), ([], {}), ("a", "a ")])
def test_values_that_python_or_people_take_for_equal_are_a_change(store, old, new):
    saving.save_dataset("a", [{"id": "x", "input": old}], store=store)
    assert saving.save_dataset("a", [{"id": "x", "input": new}], store=store).version == 2
    assert repr(d.get_dataset("a", store=store).items[0].input) == repr(new)
    assert [c.item_id for c in changes.diff_versions("a", 1, 2, store).changed] == ["x"]


def test_missing_items_stay_unless_they_are_to_be_removed(store):
    saving.save_dataset("a", [item(i) for i in range(3)], store=store)
    assert len(saving.save_dataset("a", [item(0)], store=store)) == 3
    fewer = saving.save_dataset("a", [item(0)], store=store, remove_missing=True)
    assert (fewer.version, [i.id for i in fewer.items]) == (2, ["f000"])
    back = saving.save_dataset("a", [item(1)], store=store)
    assert [i.id for i in back.items] == ["f000", "f001"]
    none = saving.save_dataset("a", [], store=store, remove_missing=True)
    assert (none.version, list(none.items)) == (4, [])


def test_a_dataset_may_be_empty_and_is_filled_later(store):
    empty = saving.save_dataset("a", [], store=store)
    assert (empty.version, len(empty), list(empty)) == (1, 0, [])
    assert saving.upsert_item("a", item(1), store=store).version == 2


def test_a_version_is_found_by_number_text_or_moment(store):
    one = saving.save_dataset("a", [item(0)], store=store)
    two = saving.save_dataset("a", [item(0, 1)], store=store)
    at = lambda v: d.get_dataset("a", v, store).version  # noqa: E731
    assert [at(v) for v in (None, 1, 2, "1", "2")] == [2, 1, 2, 1, 2]
    assert [at(v) for v in (one.version_created_at, one.version_created_at.isoformat(), two.version_created_at)] == [
        1,
        1,
        2,
    ]
    assert at(two.version_created_at.astimezone().isoformat()) == 2
    for wrong in (0, 3, "7", "1999-01-01"):
        with pytest.raises(d.DatasetNotFoundError, match=r"has no version .*it has 1 \(\d{4}-.*, 2 \("):
            at(wrong)
    with pytest.raises(TypeError, match="version=True"):
        at(True)
    assert [v.version for v in d.list_versions("a", store)] == [1, 2]


SAVES = st.lists(
    st.tuples(
        st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 2), max_size=6),
        st.booleans(),
        st.sampled_from(["", *"abcdef"]),
    ),
    min_size=1,
    max_size=6,
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("shared") / "store.db")
    yield store
    store.close()


@given(saves=SAVES)
@settings(max_examples=25)
def test_every_version_stays_what_it_was(shared, saves):
    name = f"history {time.monotonic_ns()}"
    expected: dict[int, dict] = {}
    now: dict[str, int] = {}
    for values, remove, archive in saves:
        before = dict(now)
        saved = saving.save_dataset(
            name, [{"id": k, "input": v} for k, v in values.items()], store=shared, remove_missing=remove
        )
        now = {k: v for k, v in now.items() if not remove or k in values} | values
        assert saved.version == len(expected) + (now != before or not expected)
        expected[saved.version] = dict(now)
        if archive in now:
            saved = saving.archive_item(name, archive, store=shared)
            del now[archive]
            expected[saved.version] = dict(now)
            saving.upsert_item(name, {"id": archive, "input": 9}, store=shared)
            now[archive] = 9
            expected[saved.version + 1] = dict(now)
    for version, items in expected.items():
        found = d.get_dataset(name, version, shared)
        assert ({i.id: i.input for i in found.items}, len(found)) == (items, len(items))


# Saving ----------------------------------------------------------------------------------------------------------


@given(value=JSON, truth=JSON, metadata=st.none() | st.dictionaries(TEXT, JSON, max_size=3), item_id=TEXT.filter(bool))
@settings(max_examples=40)
def test_any_json_comes_back_unchanged(shared, value, truth, metadata, item_id):
    given_ = DatasetItem(item_id, value, truth, metadata, "trace", "observation")
    saved = saving.save_dataset("json", [copy.deepcopy(given_)], store=shared, remove_missing=True)
    (back,) = saved.items
    assert back == given_ and repr(back) == repr(given_)
    assert saving.save_dataset("json", [back], store=shared).version == saved.version


def test_nothing_is_stored_when_an_item_is_bad_or_the_source_breaks(store):
    def breaks():
        yield item(0)
        raise OSError("the scanner is gone")

    for items, error in (
        (breaks(), OSError),
        ([item(0), {"ground_truth": 1}], ValueError),
        ([item(0), item(0, 1)], ValueError),
        ([{"input": 1, "status": "GONE"}], ValueError),
        ([{"input": 1, "id": 1.5}], ValueError),
        ([{"input": 1, "metadata": "x"}], ValueError),
        ([DatasetItem("x", 1, None, [1])], ValueError),
    ):
        with pytest.raises(error):
            saving.save_dataset("a", items, store=store)
    assert d.list_datasets(store) == []


def test_errors_name_the_item_and_the_field(sqlite_store):
    def said(*items):
        with pytest.raises(ValueError) as e:
            saving.save_dataset("a", items, store=sqlite_store)
        return str(e.value)

    assert (
        said(item(0), item(1), item(0)) == "item 2: the id 'f000' was used already by item 0; every item needs its own"
    )
    assert "item 1: no field 'input'" in said(item(0), {"id": "x", "output": 1}) and "['id', 'output']" in said(
        {"id": "x", "output": 1}
    )
    assert "it has no fields" in said({})
    assert "item 0, field 'metadata': [1] is not an object" in said({"input": 1, "metadata": [1]})
    assert "item 0: 'text' is not a record" in said("text")
    assert "'input' and 'input_data' mean the same but differ" in said({"input": 1, "input_data": 2})
    assert "field 'level'" in said({"input": 1, "level": 1, "metadata": {"level": 2}})
    assert "field 'tags'" in said({"input": 1, "tags": "one"})


@pytest.mark.parametrize("name", ["", "  ", None, 5, "x" * 201, "line\nbreak", "nul\0"])
def test_a_name_that_cannot_be_is_refused(sqlite_store, name):
    with pytest.raises(ValueError, match="name="):
        saving.save_dataset(name, [], store=sqlite_store)


@pytest.mark.parametrize("name", ["ชุดข้อมูลบางบำหรุ", "'; DROP TABLE datasets; --", "a/b c%20?", "100%s"])
def test_any_printable_name_works(store, name):
    saving.save_dataset(name, [item(0)], store=store)
    assert d.get_dataset(name, store=store).items[0].id == "f000"


def test_a_slow_source_holds_no_lock(sqlite_store):
    def slow():
        for i in range(3):
            saving.save_dataset("other", [item(i)], store=sqlite_store)  # would wait for ever
            yield item(i)

    assert len(saving.save_dataset("slow", slow(), store=sqlite_store)) == 3


def test_items_without_id_are_recognised_again(store):
    items = [{"input": {"form_set_name": "f1"}}, {"input": "same"}, {"input": "same"}, {"input": [1]}]
    one = saving.save_dataset("a", items, store=store)
    assert len({i.id for i in one.items}) == 4 and one.items[0].id == "f1"
    assert saving.save_dataset("a", items, store=store).version == 1


def test_other_objects_with_an_input_are_taken(sqlite_store):
    class Theirs:
        id, input, expected_output, metadata = "x", {"q": 1}, "a", None

    saved = saving.save_dataset("a", [Theirs()], store=sqlite_store)
    assert saved.items[0] == DatasetItem("x", {"q": 1}, "a")


def test_two_threads_save_one_dataset_at_once(store):
    failures = []

    def work(k):
        try:
            for i in range(5):
                saving.save_dataset("a", [item(100 * k + i, k)], store=store)
        except Exception as e:  # noqa: BLE001
            failures.append(e)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    assert not failures
    versions = d.list_versions("a", store)
    assert [v.version for v in versions] == list(range(1, 16)) and [v.n_items for v in versions] == list(range(1, 16))
    assert len({v.created_at for v in versions}) == 15
    assert sum(1 for _ in d.get_dataset("a", store=store)) == 15


SAVER = """
import sys
from vote_experiments.datasets.saving import save_dataset
for i in range(5):
    save_dataset("a", [{"id": f"{sys.argv[2]}{k}", "input": i} for k in range(700)], store=sys.argv[1])
"""


def test_two_processes_save_one_dataset_at_once(tmp_path):
    path = tmp_path / "store.db"
    workers = [
        subprocess.Popen([sys.executable, "-c", SAVER, str(path), name], stderr=subprocess.PIPE) for name in "xy"
    ]
    for w in workers:
        _, err = w.communicate(timeout=60)
        assert w.returncode == 0, err.decode()
    store = Store(path)
    last = d.get_dataset("a", store=store)
    assert (last.version, last.n_items, {i.input for i in last.items}) == (10, 1400, {4})
    store.close()


# Page images -----------------------------------------------------------------------------------------------------


def test_a_moved_folder_has_the_same_hash_and_its_items_are_told_the_new_place(store, tmp_path):
    pages = [{"id": "f1", "input": {"image_paths": ["f1_page1.jpg", "deep/f1_page2.jpg"]}, "ground_truth": {"v": 1}}]
    here, there = tmp_path / "here", tmp_path / "there"
    one = saving.save_dataset("a", pages, root=here, store=store)
    moved = saving.save_dataset("a", pages, root=there, store=store)
    other = saving.save_dataset("b", pages, root=there / "b", store=store)
    assert moved.version == 1 and one.content_hash == moved.content_hash == other.content_hash
    assert moved.items[0].input["image_paths"] == [str(there / "f1_page1.jpg"), str(there / "deep/f1_page2.jpg")]
    assert moved.root == str(there) and {here, there} <= set(moved.roots)
    assert (
        saving.save_dataset(
            "a", [{**pages[0], "input": {"image_paths": ["f1_page3.jpg"]}}], root=there, store=store
        ).version
        == 2
    )


def test_paths_stay_as_given_in_a_dataset_without_a_folder(store):
    saved = saving.save_dataset(
        "a", [{"input": {"image_paths": ["x.jpg", Path("y.jpg")], "image_path": "z.jpg"}}], store=store
    )
    assert saved.items[0].input == {"image_paths": ["x.jpg", "y.jpg"], "image_path": "z.jpg"}
    assert saved.root is None


def test_a_folder_whose_name_is_the_start_of_another_is_not_its_parent(sqlite_store):
    one, other = (
        item_records.content_hash(DatasetItem("a", {"image_paths": [p]}), ["/data"])
        for p in ("/data/x.jpg", "/data2/x.jpg")
    )
    assert one != other


# Reading ---------------------------------------------------------------------------------------------------------

N = 2 * item_records.PAGE + 7


@pytest.fixture(scope="module")
def long(shared):
    "A dataset of three pages with gaps in its positions"
    saving.save_dataset(
        "long", [{"id": f"gone{i}" if i % 7 == 3 else f"i{i}", "input": i} for i in range(N * 7 // 6 + 1)], store=shared
    )
    kept = [i for i in d.get_dataset("long", store=shared).iter_items() if not i.id.startswith("gone")][:N]
    return saving.save_dataset("long", kept, store=shared, remove_missing=True), [i.input for i in kept]


@given(
    start=st.none() | st.integers(-N - 5, N + 5),
    stop=st.none() | st.integers(-N - 5, N + 5),
    step=st.none() | st.integers(-N, N).filter(bool),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_items_slice_like_a_list(long, start, stop, step):
    dataset, values = long
    part = slice(start, stop, step)
    assert len(dataset.items[part]) == len(values[part])
    assert [i.input for i in dataset.items[part][:9]] == values[part][:9]


@given(places=st.lists(st.integers(-N, N - 1), max_size=20))
@settings(max_examples=30)
def test_items_are_found_by_place_in_any_order(long, places):
    dataset, values = long
    fresh = d.get_dataset("long", dataset.version, dataset._store)
    assert [fresh.items[p].input for p in places] == [values[p] for p in places]


def test_items_are_a_sequence(long):
    dataset, values = long
    items = dataset.items
    assert isinstance(items, Sequence) and [i.input for i in items] == values
    assert items[3] in items and items.index(items[4]) == 4 and list(reversed(items[:3])) == list(items[2::-1])
    assert items[:2] == [items[0], items[1]] and items[:2] != items[:3]
    for wrong in (N, -N - 1):
        with pytest.raises(IndexError, match=f"item {wrong} does not exist; there are {N}"):
            items[wrong]
    assert "in all" in repr(items) and len(repr(items)) < 1000


def test_rows_stream_from_any_place(long):
    dataset, values = long
    for start, limit in ((0, None), (0, 3), (item_records.PAGE - 1, 2), (N - 1, None), (N, None), (5, 0), (499, 600)):
        found = list(dataset.iter_rows(start, limit))
        end = N if limit is None else min(N, start + limit)
        assert [(place, i.input) for _, place, i in found] == list(enumerate(values))[start:end]
    some = {row: i for row, _, i in dataset.iter_rows(10, 5)}
    assert d.items_of_rows([*some, 10**9], dataset._store) == some
    assert [place for _, place, _ in dataset.items[1:9:3].iter_rows()] == [1, 4, 7]


def test_reading_goes_on_while_the_dataset_changes(store):
    one = saving.save_dataset("a", [item(i) for i in range(item_records.PAGE + 3)], store=store)
    stream = iter(one.items)
    first = next(stream)
    saving.save_dataset("a", [item(i, 1) for i in range(0, 2 * item_records.PAGE, 2)], store=store, remove_missing=True)
    assert [i.expected_output["votes"] for i in [first, *stream]] == [0] * (item_records.PAGE + 3)


def test_fields_by_name_items_by_place(store):
    saved = saving.save_dataset("a", [item(0), item(1)], store=store, description="two")
    assert (
        saved["name"] == "a" and saved["description"] == "two" and "version" in saved and saved.get("nothing", 3) == 3
    )
    assert (len(saved), saved[1].id, [i.id for i in saved[:1]], [i.id for i in saved]) == (
        2,
        "f001",
        ["f000"],
        ["f000", "f001"],
    )
    assert dict(saved)["n_items"] == 2
    with pytest.raises(KeyError):
        saved["nothing"]


def test_items_by_id(long):
    dataset, _ = long
    ids = [i.id for i in dataset.items[::5]][::-1]
    assert [i.id for i in dataset.iter_items(ids=ids)] == ids
    assert [i.id for i in dataset.iter_items(ids=iter(ids), limit=2)] == ids[:2]
    with pytest.raises(LookupError, match="'long' version 2 has no item 'gone3'"):
        list(dataset.iter_items(ids=[ids[0], "gone3"]))


def test_a_big_dataset_is_never_held_whole(sqlite_store):
    import tracemalloc

    saving.save_dataset("warm", [item(0)], store=sqlite_store)
    tracemalloc.start()
    saved = saving.save_dataset("big", ({"id": str(i), "input": "x" * 20_000} for i in range(3000)), store=sqlite_store)
    total = sum(len(i.input) for i in saved.items)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == 60_000_000 and peak < 40_000_000  # a page holds 10 MB, what is laid aside 8 MB


# Finding ---------------------------------------------------------------------------------------------------------


def test_an_unknown_name_gets_help(store):
    with pytest.raises(d.DatasetNotFoundError, match="it has none yet.*import_dataset.*datasets synth"):
        d.get_dataset("stations", store=store)
    for name in ("vote-extraction-bangbamru-1-10", "vote-extraction-synthetic-1-10", "other"):
        saving.save_dataset(name, [item(0)], store=store)
    with pytest.raises(
        LookupError, match="'vote-extraction-bangbamro-1-10'.*nearest names are 'vote-extraction-bangbamru-1-10'"
    ):
        d.get_dataset("vote-extraction-bangbamro-1-10", store=store)
    with pytest.raises(LookupError, match="it has 'other', 'vote-"):
        d.get_dataset("zzzzzz", store=store)
    for call in (
        d.list_versions,
        saving.delete_dataset,
        lambda n, store: saving.upsert_item(n, item(1), store=store),
        lambda n, store: saving.archive_item(n, "x", store=store),
        lambda n, store: changes.diff_versions(n, 1, 2, store),
    ):
        with pytest.raises(d.DatasetNotFoundError):
            call("othr", store=store)


def test_datasets_are_listed_at_their_newest_version(store):
    for name, n in (("b", 2), ("a", 1)):
        for k in range(n):
            saving.save_dataset(name, [item(0, k)], store=store)
    assert [(s.name, s.version, s.n_items) for s in d.list_datasets(store)] == [("a", 1, 1), ("b", 2, 1)]
    assert d.list_datasets(store)[1].items[0].expected_output == {"votes": 1}


def test_deleting_a_dataset_that_was_used_needs_force(store):
    saved = saving.save_dataset("a", [item(0)], store=store)
    saving.save_dataset("b", [item(0)], store=store)
    with store.write() as c:
        c.execute(
            sa.insert(experiments).values(
                id="e1", name="e", run_name="e - 1", dataset_id=saved.id, status="finished", created_at=1
            )
        )
    with pytest.raises(ValueError, match="'a' was used by 1 experiment.*'e - 1'.*force=True"):
        saving.delete_dataset("a", store=store)
    saving.delete_dataset("a", force=True, store=store)
    assert [s.name for s in d.list_datasets(store)] == ["b"] and len(rows(store)) == 1


# Differences -----------------------------------------------------------------------------------------------------


def changed_by_hand(old, new, path=()):
    "A plain statement of what differs, to compare with"
    if isinstance(old, dict) and isinstance(new, dict):
        return {
            p
            for k in {*old, *new}
            for p in (changed_by_hand(old[k], new[k], (*path, k)) if k in old and k in new else {(*path, k)})
        }
    if isinstance(old, list) and isinstance(new, list):
        return changed_by_hand(dict(enumerate(old)), dict(enumerate(new)), path)
    return set() if repr(old) == repr(new) else {path}


@given(JSON, JSON)
def test_every_difference_is_found_once(old, new):
    found = list(changes.field_changes(old, new))
    assert len(found) == len(changed_by_hand(old, new))
    assert not list(changes.field_changes(old, copy.deepcopy(old)))


def test_differences_between_any_two_versions(store):
    saving.save_dataset("a", [item(0, 1), item(1, 1), item(2, 1)], store=store)
    saving.save_dataset("a", [item(0, 1), item(1, 2), item(3, 1)], store=store, remove_missing=True)
    saving.save_dataset("a", [item(1, 1)], store=store)
    diff = changes.diff_versions("a", 1, 2, store)
    assert (diff.added, diff.removed, [c.item_id for c in diff.changed]) == (["f003"], ["f002"], ["f001"])
    (change,) = diff.changed[0].fields
    assert change == changes.FieldChange("expected_output.votes", "changed", 1, 2)
    assert not changes.diff_versions("a", 1, 3, store).changed and changes.diff_versions("a", 1, 3, store).added == [
        "f003"
    ]
    assert not changes.diff_versions("a", 2, 2, store)
    assert "| f001 | changed | expected_output.votes | 1 | 2 |" in diff._repr_markdown_()


def test_an_archived_item_shows_as_such(store):
    saving.save_dataset("a", [item(0)], store=store)
    saving.archive_item("a", "f000", store=store)
    (change,) = changes.diff_versions("a", 1, store=store).changed
    assert change.fields == [changes.FieldChange("status", "changed", "ACTIVE", "ARCHIVED")]
    assert saving.archive_item("a", "f000", store=store).version == 2


# Showing ---------------------------------------------------------------------------------------------------------


def test_markdown_is_harmless(store):
    bad = "<script>alert(1)</script> | `x` ![p](http://evil/x.png)"
    saved = saving.save_dataset(
        bad,
        [{"id": bad, "input": {bad: bad}, "ground_truth": bad}, *(item(i) for i in range(9))],
        store=store,
        description=bad,
    )
    saving.save_dataset(bad, [{"id": bad, "input": bad + "!"}], store=store)
    for text in (saved._repr_markdown_(), changes.diff_versions(bad, 1, 2, store)._repr_markdown_()):
        assert "<script" not in text and "![" not in text and "10 items" in text or "1 changed" in text
        table = [line for line in text.splitlines() if line.startswith("|")]
        assert len({line.replace("\\|", "").count("|") for line in table}) == 1


def test_a_dataset_says_how_many_items_it_does_not_show(store):
    text = saving.save_dataset("a", [item(i) for i in range(8)], store=store)._repr_markdown_()
    assert "version 1 · 8 items" in text and "and 3 more" in text
    assert "0 items" in saving.save_dataset("b", [], store=store)._repr_markdown_()


# Validation ------------------------------------------------------------------------------------------------------


@pytest.fixture
def scans(tmp_path):
    for name in ("a_page1.png", "a_page2.png"):
        Image.new("L", (300, 400), 255).save(tmp_path / name)
    Image.new("L", (300, 400), 255).save(
        tmp_path / "two.tif", save_all=True, append_images=[Image.new("L", (300, 400))]
    )
    (tmp_path / "damaged.jpg").write_bytes(b"\xff\xd8\xff")
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "link.png").symlink_to("/etc/hostname")
    return tmp_path


REPORT = {
    "form_info": {"form_type": "Constituency"},
    "ballot_statistics": {"ballots_used": "๑,๒๐๐"},
    "vote_results": [],
}


def test_sound_items_have_no_problem(scans, store):
    saved = saving.save_dataset(
        "a",
        [
            {
                "id": "a",
                "input": {"image_paths": ["a_page1.png", "a_page2.png"], "num_pages": 2},
                "ground_truth": REPORT,
            },
            {
                "id": "b",
                "input": {"image_paths": ["two.tif", "a_page1.png"], "num_pages": 3},
                "ground_truth": {"success": True, "data": [REPORT]},
            },
            {"id": "c", "input": "no pages at all", "ground_truth": "any text"},
        ],
        root=scans,
        store=store,
    )
    assert dataset_validation.validate_items(saved) == []


@pytest.mark.parametrize(
    "given_, truth, kind, words",
    [
        ({"image_paths": ["none.png"]}, REPORT, "missing_image", "none.png' does not exist"),
        ({"image_paths": ["link.png"]}, REPORT, "outside_roots", "outside the allowed folders"),
        ({"image_paths": ["/etc/hostname"]}, REPORT, "outside_roots", "/etc/hostname"),
        ({"image_paths": ["text.jpg"]}, REPORT, "unreadable_image", "not an image"),
        ({"image_paths": [7]}, REPORT, "unreadable_image", "7 is not the path"),
        ({"image_paths": ["nul\0.png"]}, REPORT, "unreadable_image", "cannot be used"),
        ({"image_paths": ["two.tif"], "num_pages": 3}, REPORT, "page_count", "num_pages says 3, the files hold 2"),
        ({"image_path": "a_page1.png", "num_pages": "1"}, REPORT, "page_count", "num_pages says '1'"),
        (None, REPORT, "no_input", "would be skipped"),
        ("x", None, "no_ground_truth", "not scored"),
        ("x", "null", "no_ground_truth", "not scored"),
        (
            "x",
            {**REPORT, "ballot_statistics": {"ballots_used": "many"}},
            "ground_truth",
            "ballot_statistics.ballots_used",
        ),
        ("x", {"data": [REPORT, {"form_info": {"form_type": "menu"}}]}, "ground_truth", "form_type"),
    ],
)
def test_each_problem_is_found_and_named(scans, given_, truth, kind, words):
    given_ = item_records.map_pages(given_, lambda p: p if "\0" in p else str(scans / p))
    problems = dataset_validation.validate_items([{"id": "i1", "input": given_, "ground_truth": truth}], [scans])
    assert [(p.item_id, p.kind) for p in problems] == [("i1", kind)] and words in problems[0].message
    assert problems[0].severity == ("warning" if kind == "no_ground_truth" else "error")


def test_bad_records_do_not_hide_the_others(scans):
    problems = dataset_validation.validate_items(
        [{"id": "x", "input": 1, "ground_truth": 1}, "text", {"id": "x", "input": 2, "ground_truth": 1}, {}]
    )
    assert [(p.item_id, p.kind) for p in problems] == [
        ("item 1", "malformed"),
        ("x", "duplicate_id"),
        ("item 3", "malformed"),
    ]


def table_of(numbers):
    rows = [{"number": n, "vote_count": 8 + i} for i, n in enumerate(numbers)]
    return [{"id": "x/2", "input": {"station": "x/2"}, "expected_output": {"form_info": {}, "vote_results": rows}}]


@pytest.mark.parametrize(("numbers", "named"), [([1, 2, 1, 2], "1, 2"), ([1, 2, 3, 3], "3"), ([67, 1, 67], "67")])
def test_two_tables_in_one_report_are_named(numbers, named):
    (problem,) = dataset_validation.validate_items(table_of(numbers))
    assert (problem.kind, problem.severity) == ("ground_truth", "error")
    assert f"number {named} comes more than once" in problem.message
    assert dataset_validation.validate_items(table_of(sorted(set(numbers)))) == []
