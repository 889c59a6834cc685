"""Dataset files and folders: four formats without loss, every fault named, no way out of the allowed folders"""

import codecs
import csv
import json
import os
import re
import sys
from pathlib import Path

import pytest
from hypothesis import example, given, settings, strategies as st
from PIL import Image

from vote_experiments.datasets import files as f
from vote_experiments.datasets import file_formats
from vote_experiments.datasets import folders as dataset_folders
from vote_experiments.datasets.file_formats import Columns
from vote_experiments.datasets.files import read_dataset_file, write_dataset_file
from vote_experiments.datasets.dataset import DatasetNotFoundError
from vote_experiments.datasets.saving import save_dataset, upsert_item
from vote_experiments.datasets.validation import validate_items
from vote_experiments.records import DatasetItem

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=10) | st.sampled_from(
    [
        "null",
        "NaN",
        "true",
        "12",
        "007",
        "1e5",
        "-1",
        "=1+1",
        "@x",
        "{",
        '{"',
        '["a',
        '"',
        "ก้ำ",
        "\ufeff",
        "a\r\nb",
        " x ",
        "1_0",
        "\\u0000",
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
ITEMS = st.lists(
    st.builds(
        DatasetItem,
        TEXT.filter(bool),
        JSON,
        JSON,
        st.none() | st.dictionaries(TEXT, JSON, max_size=3),
        st.none() | TEXT.filter(bool),
        st.none() | TEXT.filter(bool),
        st.sampled_from(["ACTIVE", "ARCHIVED"]),
    ),
    max_size=4,
    unique_by=lambda i: i.id,
)


def plain(items):
    return [i.to_dict() for i in items]


def written(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(path, **options):
    return list(f.read_dataset_file(path, **options).items)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("files").resolve()


# Round trips -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", file_formats.FORMATS)
@given(items=ITEMS)
@settings(max_examples=60)
@example(items=[DatasetItem("=1", {"tags": []}, [], {"tags": ["a", "b"]}), DatasetItem('"', None, None, {})])
@example(items=[DatasetItem("a", 2**80, [10**30], {"tags": ["a", "a"]}), DatasetItem("b", "", "", {"tags": "a"})])
def test_items_come_back_from_every_format(place, kind, items):
    if kind == "jsonl" and not items:
        with pytest.raises(ValueError, match="cannot say that a dataset is empty"):
            f.write_dataset_file(items, place / "round.jsonl")
        return
    back = read(f.write_dataset_file(items, place / f"round.{kind}", kind))
    assert plain(back) == plain(items) and repr(back) == repr(items)


@given(
    name=TEXT.filter(lambda t: t.strip()),
    description=st.none() | TEXT,
    metadata=st.none()
    | st.dictionaries(
        TEXT | st.sampled_from(["name", "metadata", "version", "num_records"]), JSON, min_size=1, max_size=4
    ),
)
@settings(max_examples=60)
@pytest.mark.parametrize("kind", ["local", "datadog"])
def test_what_is_said_about_a_dataset_comes_back(place, kind, name, description, metadata):
    said = f.DatasetFile(place, kind, name, [], description, metadata)
    back = f.read_dataset_file(f.write_dataset_file(said, place / "about.json", kind))
    assert (back.name, back.description, back.metadata, back.format) == (name, description, metadata, kind)


@given(
    rows=st.lists(
        st.tuples(
            JSON,
            st.dictionaries(st.sampled_from(["a", "ข"]), JSON),
            st.dictionaries(st.just("level"), JSON, min_size=1),
        ),
        max_size=3,
    )
)
@settings(max_examples=60)
def test_chosen_columns_come_back(place, rows):
    columns = file_formats.Columns(id="station", input="question", expected=["a", "ข"], metadata=["level"])
    items = [DatasetItem(f"0{i}", q, a or None, m) for i, (q, a, m) in enumerate(rows)]
    back = read(f.write_dataset_file(items, place / "chosen.csv", columns=columns), columns=columns)
    assert plain(back) == plain(items)


@given(cell=st.text(st.characters(exclude_categories=["Cs"])))
def test_a_written_cell_is_harmless_and_read_back(cell):
    text = file_formats._cell(cell)
    assert file_formats._value(text) == cell and text[:1] not in tuple("=+-@\t\r")


@pytest.mark.parametrize("kind", file_formats.FORMATS)
def test_a_stored_dataset_goes_out_and_comes_back_the_same(store, tmp_path, kind):
    scans = tmp_path / "out" / "scans"
    saved = save_dataset(
        "บางบำหรุ",
        [
            {
                "id": f"f{i}",
                "input": {"form_set_name": f"f{i}", "image_paths": [f"f{i}/หน้า 1.jpg", f"f{i}/p2.jpg"], "num_pages": 2},
                "ground_truth": {"vote_results": [{"number": 1, "vote_count": i}]},
                "metadata": {"tags": ["level:scan"]},
            }
            for i in range(3)
        ],
        root=scans,
        store=store,
        description="สองบรรทัด\nที่นี่",
        metadata={"year": 2566},
    )
    path = f.export_dataset("บางบำหรุ", tmp_path / "out" / f"x.{kind}", kind, store=store)
    assert "scans/f1/หน้า 1.jpg" in path.read_text("utf-8-sig") and str(tmp_path) not in path.read_text("utf-8-sig")
    back = f.import_dataset(path, "back", store=store)
    assert plain(back.items) == plain(saved.items)
    moved = (tmp_path / "out").rename(tmp_path / "moved")
    other = f.import_dataset(moved / path.name, "back", store=store)
    assert (other.version, other.content_hash) == (1, back.content_hash)
    assert other.items[0].input["image_paths"][1] == str(moved / "scans/f0/p2.jpg")
    if kind in ("local", "datadog"):
        assert (back.description, back.metadata) == (saved.description, saved.metadata)
    assert f.import_dataset(moved / path.name, store=store).name == ("บางบำหรุ" if kind in ("local", "datadog") else "x")


def test_an_older_version_is_exported_as_it_was(store, tmp_path):
    for votes in (1, 2):
        save_dataset("a", [{"id": "x", "input": 1, "ground_truth": votes}], store=store)
    path = f.export_dataset("a", tmp_path / "v1.json", version=1, store=store)
    assert read(path)[0].expected_output == 1 and json.loads(path.read_text())["metadata"]["version"] == 1
    assert f.read_dataset_file(path).version == 1
    with pytest.raises(DatasetNotFoundError):
        f.export_dataset("b", tmp_path / "b.json", store=store)


def test_local_json_counts_records_and_pages(tmp_path):
    items = [DatasetItem("a", {"num_pages": 6}), DatasetItem("b", {"image_paths": ["1", "2"]}), DatasetItem("c", "x")]
    about = json.loads(f.write_dataset_file(items, tmp_path / "a.json").read_text())["metadata"]
    assert (about["num_records"], about["total_pages"]) == (3, 8)


# Reading what others wrote ---------------------------------------------------------------------------------------


def test_datadog_in_all_its_spellings(tmp_path):
    record = {
        "input_data": {"q": 1},
        "expected_output": {"a": 2},
        "metadata": {"k": 1},
        "tags": ["x:1"],
        "record_id": "r1",
    }
    wanted = [DatasetItem("r1", {"q": 1}, {"a": 2}, {"k": 1, "tags": ["x:1"]})]
    whole = f.read_dataset_file(
        written(tmp_path, "d.json", json.dumps({"name": "n", "description": "d", "records": [record]}))
    )
    assert (whole.name, whole.description, list(whole.items)) == ("n", "d", wanted)
    assert read(written(tmp_path, "bare.json", json.dumps([record]))) == wanted
    assert f.read_dataset_file(tmp_path / "bare.json").name == "bare"


def test_tags_in_two_places_are_one_list(tmp_path):
    path = written(tmp_path, "t.jsonl", '{"id": "a", "input": 1, "tags": ["x", "y"], "metadata": {"tags": ["y", "z"]}}')
    assert read(path)[0].metadata == {"tags": ["y", "z", "x"]}


def test_unknown_fields_are_kept(tmp_path):
    assert read(written(tmp_path, "u.jsonl", '{"id": "a", "input": 1, "split": "test"}'))[0].metadata == {
        "split": "test"
    }


@pytest.mark.parametrize(
    "content",
    [
        '{"records": [{"id": "ก", "input": {"v": NaN}}]}',
        '\ufeff[{"id": "ก", "input": {"v": Infinity}}]',
        '\ufeff{"id": "ก", "input": {"v": null}}\r\n\r\n',
        '\ufeffid,input\r\nก,"{""v"": NaN}"\r\n,\r\n',
        'id;input\nก;"{""v"": null}"\n',
        'id\tinput\nก\t{""v"": null}\n'.replace('""', '"'),
    ],
)
def test_bom_line_ends_nan_and_delimiters(tmp_path, content):
    if "\t" in content:
        content = 'id\tinput\nก\t"{""v"": null}"\n'
    assert read(written(tmp_path, "x.data", content)) == [DatasetItem("ก", {"v": None})]


def test_null_as_text_stays_text(tmp_path):
    assert read(written(tmp_path, "n.json", '[{"id": "a", "input": "null", "ground_truth": {"v": "null"}}]'))[
        0
    ].expected_output == {"v": "null"}
    (one,) = read(written(tmp_path, "n.csv", 'id,input,expected_output\na,"""null""",null\n'))
    assert (one.input, one.expected_output) == ("null", None)


def test_huge_fields(tmp_path):
    big = "ก" * 300_000
    for kind in file_formats.FORMATS:
        (one,) = read(f.write_dataset_file([DatasetItem("a", big, {"t": big})], tmp_path / f"big.{kind}", kind))
        assert one.input == big and one.expected_output == {"t": big}


def test_identifiers_in_csv_are_text(tmp_path):
    assert [i.id for i in read(written(tmp_path, "i.csv", "id,input\n007,1\n1e5,2\ntrue,3\n"))] == [
        "007",
        "1e5",
        "true",
    ]


def test_cells_of_a_plain_spreadsheet(tmp_path):
    path = written(
        tmp_path,
        "s.csv",
        'station,province,votes,note,checked\n1,กรุงเทพมหานคร,"1,200",[unclear],\n2,"{x}",12,"two\nlines",true\n',
    )
    items = read(
        path,
        columns=file_formats.Columns(
            id="station", input=["province"], expected=["votes", "checked"], metadata=["note"]
        ),
    )
    assert [(i.id, i.input, i.expected_output, i.metadata) for i in items] == [
        ("1", {"province": "กรุงเทพมหานคร"}, {"votes": "1,200"}, {"note": "[unclear]"}),
        ("2", {"province": "{x}"}, {"votes": 12, "checked": True}, {"note": "two\nlines"}),
    ]


def test_a_file_of_lines_is_not_read_whole(tmp_path):
    path = tmp_path / "long.jsonl"
    with open(path, "w") as out:
        for i in range(5):
            out.write(json.dumps({"input": i}) + "\n")
        out.write("broken")
    items = iter(f.read_dataset_file(path).items)
    assert [next(items).input for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match=r"line 6 \(record 6\), column 1: this is not JSON"):
        next(items)


# Faults ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("a.json", "", "a.json is empty"),
        ("a.csv", "\n \r\n", "a.csv is empty"),
        ("a.json", b"\xef\xbb\xbf", "is empty"),
        ("a.json", '{"records": [\n  {"input": 1}\n  {"input": 2}]}', "a.json, line 3, column"),
        ("a.json", '{"records": [{"input": 1}', "a.json, line 1, column"),
        ("a.json", '{"metadata": {}}\n', "line 1 (record 1): no field 'input'"),
        ("a.json", '{\n"metadata": {}, "rows": []}', "no field 'records'; it has ['metadata', 'rows']"),
        ("a.json", '{"records": {"a": 1}}', "field 'records': dict is not a list"),
        ("a.json", '{"metadata": [], "records": []}', "field 'metadata': list is not an object"),
        ("a.json", '[{"input": 1}, 7]', "records[1]: 7 is not a record"),
        (
            "a.json",
            '[{"input": 1}, {"input": 2, "metadata": "m"}]',
            "records[1], field 'metadata': 'm' is not an object",
        ),
        ("a.json", '[{"input": 1, "id": "x"}, {"input": 2, "id": "x"}]', "records[1]: the id 'x' was used already by "),
        ("a.json", '[{"input": 1, "id": {}}]', "records[0], field 'id': {} is not a text"),
        ("a.json", "[" * 100_000, "nested too deeply"),
        ("a.json", b'[{"input": "\xa1\xa2"}]', "not UTF-8; save the file as UTF-8"),
        ("a.jsonl", '{"input": 1}\n\n{"input": \n', "a.jsonl, line 3 (record 2), column"),
        ("a.jsonl", '{"input": 1}\n[1]\n', "line 2 (record 2): [1] is not a record"),
        ("a.jsonl", b'{"input": 1}\n{"input": "\xa1"}', "line 2 (record 2): byte"),
        ("a.jsonl", '{"input": 1}\n{}\n', "line 2 (record 2): no field 'input' (or 'input_data'); it has no fields"),
        (
            "a.csv",
            "id,text\n1,2\n",
            "line 1: no column 'input'; a table of results is imported with mapping='auto', else choose with Columns(input=[…]) among ['id', 'text']",
        ),
        ("a.csv", "id,input,id\n1,2,3\n", "line 1: the columns ['id'] come twice"),
        ("a.csv", "id,input\n1,2\n3\n", "line 3 (record 2): 1 cells, but the header has 2 columns (id, input)"),
        ("a.csv", "id,input\n1,2,3\n", "line 2 (record 1): 3 cells"),
        ("a.csv", "id,input,\n1,2,3\n", "a value in a column without a name"),
        (
            "a.csv",
            'id,input\n1,"a\nb"\n2,"{""a"": 1"\n',
            "line 4 (record 2), column 'input', column 8: this is not JSON",
        ),
        ("a.csv", 'id,input\n1,"open\n', "line 2: unexpected end of data"),
        ("a.csv", 'id,input\n1,"a"b\n', "line 2: "),
        ("a.csv", b"id,input\n1,\xa1\xa2\n", "a.csv, line 2: byte 0xa1 is not UTF-8"),
        ("a.csv", "id,input,metadata\n1,2,3\n", "line 2 (record 1), field 'metadata': 3 is not an object"),
        ("a.csv", "id,input\nx,1\nx,2\n", "line 3 (record 2): the id 'x' was used already by "),
        ("a.csv", codecs.BOM_UTF16_LE + "id,input".encode("utf-16-le"), "UTF-16 text; save it as UTF-8"),
        ("a.xlsx", b"PK\x03\x04rest", "save the sheet as CSV"),
        ("a.json", b"\x89PNG\r\n", "an image; use import_folder"),
        ("a.bin", b"ab\0cd", "not a text file"),
    ],
)
def test_a_malformed_file_says_where(tmp_path, sqlite_store, name, content, words):
    path = written(tmp_path, name, content)
    with pytest.raises(ValueError) as e:
        f.import_dataset(path, store=sqlite_store)
    assert words in str(e.value) and str(path) in str(e.value)
    assert not get_names(sqlite_store)


def get_names(store):
    from vote_experiments.datasets.dataset import list_datasets

    return [x.name for x in list_datasets(store)]


def test_a_file_that_is_not_there_or_a_folder(tmp_path, sqlite_store):
    with pytest.raises(FileNotFoundError, match="nothing.json' does not exist"):
        f.import_dataset(tmp_path / "nothing.json", store=sqlite_store)
    with pytest.raises(ValueError, match="is a folder, not a dataset file; import_folder"):
        f.import_dataset(tmp_path, store=sqlite_store)
    with pytest.raises(ValueError, match="format='xml'"):
        f.read_dataset_file(written(tmp_path, "a.json", "[]"), format="xml")


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda t: t.encode("utf-8", "replace")))
@settings(max_examples=150)
@example(b'{"records":[{"input":{"image_paths":["\\u0000"]}}]}')
@example(b'{"records":[{"input":{"image_paths":["/' + b"x" * 5000 + b'"]}}]}')
def test_rubbish_is_refused_with_the_files_name(place, content):
    path = written(place, "rubbish.dat", content)
    try:
        read(path)
    except (ValueError, PermissionError) as e:
        assert str(path) in str(e)


def test_an_empty_list_of_records_is_an_empty_dataset(store, tmp_path):
    for name, content in (("a.json", '{"name": "a", "records": []}'), ("b.json", "[]"), ("c.csv", "id,input\n")):
        assert len(f.import_dataset(written(tmp_path, name, content), store=store)) == 0


def test_writing_says_what_cannot_be(tmp_path):
    items = [DatasetItem("a", "text", {"x": 1})]
    with pytest.raises(ValueError, match="format=None: choose one of local, datadog, jsonl, csv"):
        f.write_dataset_file(items, tmp_path / "a.xml")
    with pytest.raises(ValueError, match="item 'a', field 'input': str has no columns"):
        f.write_dataset_file(items, tmp_path / "a.csv", columns=file_formats.Columns(input=["q"]))
    with pytest.raises(ValueError, match=r"\['id'\] would come twice"):
        f.write_dataset_file(items, tmp_path / "a.csv", columns=file_formats.Columns(expected=["id"]))
    with pytest.raises(ValueError, match="item 1: the id 'a' was used"):
        f.write_dataset_file(items * 2, tmp_path / "a.json")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = f.write_dataset_file([DatasetItem("a", 1)], tmp_path / "a.json")
    before = path.read_bytes()
    with pytest.raises(ValueError):
        f.write_dataset_file([DatasetItem("b", 2), {"no": "input"}], path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_csv_opens_in_other_programs(tmp_path):
    path = f.write_dataset_file([DatasetItem("a", "บ้าน", {"v": 1})], tmp_path / "a.csv")
    assert path.read_bytes().startswith(codecs.BOM_UTF8)
    with open(path, encoding="utf-8-sig", newline="") as file:
        assert list(csv.DictReader(file)) == [{"id": "a", "input": "บ้าน", "expected_output": '{"v":1}', "metadata": ""}]


# Which folders may be read ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../outside.jpg", "a/../../outside.jpg", "link.jpg", "linked/outside.jpg", ".."]
)
@pytest.mark.parametrize("kind", file_formats.FORMATS)
def test_no_page_outside_the_allowed_folders(tmp_path, monkeypatch, sqlite_store, path, kind):
    home = tmp_path / "home"
    (home / "a").mkdir(parents=True)
    (home / "link.jpg").symlink_to("/etc/passwd")
    (home / "linked").symlink_to(tmp_path)
    monkeypatch.chdir(home / "a")
    monkeypatch.delenv("VOTE_EXPERIMENTS_ROOTS", raising=False)
    file = f.write_dataset_file(
        [DatasetItem("ok", {"image_paths": ["a/x.jpg"]}), DatasetItem("bad", {"image_paths": [path]})],
        home / f"d.{kind}",
        kind,
    )
    with pytest.raises(PermissionError) as e:
        f.import_dataset(file, store=sqlite_store)
    assert "item 'bad', image path" in str(e.value) and repr(path) in str(e.value) and "roots=" in str(e.value)
    assert ("records[1]" if kind in ("local", "datadog") else "(record 2)") in str(e.value)
    assert get_names(sqlite_store) == []


def test_further_folders_are_allowed_by_hand_or_by_setting(tmp_path, monkeypatch, sqlite_store):
    home, more = tmp_path / "home", tmp_path / "more"
    home.mkdir(), more.mkdir()
    file = f.write_dataset_file([DatasetItem("a", {"image_paths": [str(more / "x.jpg"), "y.jpg"]})], home / "d.json")
    monkeypatch.chdir(home)
    with pytest.raises(PermissionError):
        f.import_dataset(file, store=sqlite_store)
    by_hand = f.import_dataset(file, store=sqlite_store, roots=[more])
    assert [by_hand.root, *map(str, by_hand.roots[:2])] == [str(home), str(home), str(more)]
    monkeypatch.setenv("VOTE_EXPERIMENTS_ROOTS", os.pathsep.join(["/nowhere", str(more)]))
    again = f.import_dataset(file, "again", store=sqlite_store)
    assert again.items[0].input["image_paths"] == [str(more / "x.jpg"), str(home / "y.jpg")]
    assert again.content_hash == by_hand.content_hash
    assert Path("/nowhere") not in [Path(r) for r in again._roots]


def test_pages_are_stored_absolute_wherever_the_import_was_started(tmp_path, monkeypatch, sqlite_store):
    (tmp_path / "sets").mkdir()
    written(tmp_path / "sets", "d.jsonl", '{"id": "a", "input": {"image_paths": ["p/1.jpg"]}}')
    monkeypatch.chdir(tmp_path)
    saved = f.import_dataset("sets/d.jsonl", store=sqlite_store)
    assert saved.items[0].input["image_paths"] == [str(tmp_path.resolve() / "sets/p/1.jpg")]
    assert saved.provenance["imported_from"] == str(tmp_path.resolve() / "sets/d.jsonl")


# Folders of scans ------------------------------------------------------------------------------------------------


def touched(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def groups(folder, pattern=None):
    found = dataset_folders.group_folder(folder, pattern)
    return {s.name: [p.name for p in s.pages] for s in found}, {p.name for p in found.left_out}


def test_pages_by_name_in_natural_order(tmp_path):
    touched(
        tmp_path,
        *(f"station{s}_page{k}.jpg" for s in (2, 10) for k in (1, 2, 10, 11)),
        "หน่วย 5 หน้า ๑.PNG",
        "หน่วย 5 หน้า ๒.TIFF",
        "notes.txt",
        ".DS_Store",
    )
    found, left = groups(tmp_path)
    assert list(found) == ["station2", "station10", "หน่วย 5"] and left == {"notes.txt"}
    assert found["station10"] == [f"station10_page{k}.jpg" for k in (1, 2, 10, 11)] and len(found["หน่วย 5"]) == 2


def test_a_sub_folder_for_each_station(tmp_path):
    touched(
        tmp_path,
        "7/2.jpg",
        "7/10.jpg",
        "7/1.jpg",
        "8/page2.png",
        "8/page1.png",
        "d/9/x_page1.webp",
        "d/9/x_page2.webp",
        "empty/readme.md",
    )
    found, left = groups(tmp_path)
    assert found == {
        "7": ["1.jpg", "2.jpg", "10.jpg"],
        "8": ["page1.png", "page2.png"],
        "d/9": ["x_page1.webp", "x_page2.webp"],
    }
    assert left == {"readme.md"}


def test_several_stations_in_a_sub_folder(tmp_path):
    touched(tmp_path, "d/a_page1.jpg", "d/a_page2.jpg", "d/b_page1.jpg", "d/cover.jpg", "d/c.pdf", "a_page1.jpg")
    found, left = groups(tmp_path)
    assert found == {
        "a": ["a_page1.jpg"],
        "d/a": ["a_page1.jpg", "a_page2.jpg"],
        "d/b": ["b_page1.jpg"],
        "d/c": ["c.pdf"],
    }
    assert left == {"cover.jpg"}


def test_documents_are_form_sets_unless_they_say_a_page(tmp_path):
    touched(
        tmp_path,
        "one.pdf",
        "two.tif",
        "three_page1.pdf",
        "three_page2.pdf",
        "lone.jpg",
        "sub/4.pdf",
        "sub/5.pdf",
        "six/page1.pdf",
        "six/page2.pdf",
    )
    found, left = groups(tmp_path)
    assert found == {
        "one": ["one.pdf"],
        "two": ["two.tif"],
        "three": ["three_page1.pdf", "three_page2.pdf"],
        "sub/4": ["4.pdf"],
        "sub/5": ["5.pdf"],
        "six": ["page1.pdf", "page2.pdf"],
    }
    assert left == {"lone.jpg"}


def test_a_pattern_of_ones_own(tmp_path):
    touched(tmp_path, "scan-12-03.jpg", "scan-12-01.jpg", "scan-7-1.jpg", "a_page1.jpg", "x.pdf")
    for pattern in ("scan-<station>-<k>", r"scan-(?P<station>\d+)-(?P<page>\d+)"):
        found, left = groups(tmp_path, pattern)
        assert found == {"7": ["scan-7-1.jpg"], "12": ["scan-12-01.jpg", "scan-12-03.jpg"]} and left == {
            "a_page1.jpg",
            "x.pdf",
        }
    for bad in ("scan", "<station>", "(?P<station>", r"(?P<page>\d+)"):
        with pytest.raises(ValueError, match="pattern="):
            dataset_folders.group_folder(tmp_path, bad)


def test_what_looks_odd_is_said(tmp_path):
    touched(tmp_path, "a_page1.jpg", "a_page3.jpg", "b_page1.jpg", "b_page01.png", "_page1.jpg", "c.pdf", "c/1.jpg")
    found = dataset_folders.group_folder(tmp_path)
    assert {s.name: s.note for s in found} == {"a": "no page 2", "b": "", "c": "", "c (2)": ""}
    assert sorted(found.left_out.values())[1].startswith("page 1 of 'b' is there already: ")
    text = found._repr_markdown_()
    assert "4 form sets" in text and "2 left out" in text and "no page 2" in text


HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "a'b\"c",
    "line\nbreak",
    "ก้ำกึ่ง",
    "sp ace",
    "$(rm -rf x)",
    "..",
    "-rf",
    "%s{}",
    "a|b`c",
    "x" * 200,
    "&amp;",
    "\u202egpj",
]


def test_hostile_names(tmp_path, sqlite_store):
    for k, name in enumerate(HOSTILE):
        (tmp_path / f"{name}_page1.png").write_bytes(b"")
        (tmp_path / f"d{k} {name.replace('/', '')}").mkdir()
        (tmp_path / f"d{k} {name}" / "1.jpg").write_bytes(b"")
    found = dataset_folders.group_folder(tmp_path)
    assert len(found) == 2 * len(HOSTILE) - 1 and not found.left_out  # what begins with a dot is hidden
    assert "<img" not in found._repr_markdown_()
    saved = dataset_folders.import_folder(found, "hostile", store=sqlite_store)
    assert all(os.path.exists(p) for i in saved.items for p in i.input["image_paths"])
    back = f.import_dataset(f.export_dataset(saved, tmp_path / "x.csv"), "back", store=sqlite_store)
    assert plain(back.items) == plain(saved.items)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names themselves")
def test_names_that_are_no_text_and_links_out_are_left_out(tmp_path):
    touched(tmp_path, "a_page1.jpg")
    try:
        open(os.fsencode(tmp_path) + b"/\xff_page1.jpg", "w").close()
    except OSError:
        pytest.skip("this file system refuses names that are not UTF-8")
    (tmp_path / "b_page1.jpg").symlink_to("/etc/passwd")
    (tmp_path / "c_page1.jpg").symlink_to(tmp_path / "nothing.jpg")
    (tmp_path / "loop").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "d_page1.jpg")
    found = dataset_folders.group_folder(tmp_path)
    assert [s.name for s in found] == ["a"]
    assert sorted(found.left_out.values()) == [
        "it is a link to a file outside the allowed folders",
        "its name is not valid UTF-8: rename it",
        "not a regular file",
        "not a regular file",
    ]


@pytest.fixture
def scans(tmp_path):
    page = Image.new("L", (300, 400), 255)
    (tmp_path / "s").mkdir()
    for name in ("a_page1.jpg", "a_page2.jpg"):
        page.save(tmp_path / "s" / name)
    page.save(tmp_path / "s" / "b.pdf", save_all=True, append_images=[page, page])
    page.save(tmp_path / "s" / "c.tif", save_all=True, append_images=[page])
    return tmp_path / "s"


def test_a_folder_is_stored_with_its_page_counts(scans, store):
    saved = dataset_folders.import_folder(scans, "scans", store=store)
    assert [(i.id, i.input["form_set_name"], i.input["num_pages"], i.metadata) for i in saved.items] == [
        ("a", "a", 2, None),
        ("b", "b", 3, None),
        ("c", "c", 2, None),
    ]
    assert saved.items[0].input["image_paths"] == [str(scans / "a_page1.jpg"), str(scans / "a_page2.jpg")]
    assert saved.root == str(scans) and dataset_folders.import_folder(scans, "scans", store=store).version == 1


def test_a_damaged_document_does_not_stop_the_others(scans, store):
    (scans / "b.pdf").write_bytes(b"%PDF-1.4 cut")
    saved = dataset_folders.import_folder(scans, "scans", store=store)
    assert len(saved) == 3 and "b.pdf" in saved.item("b").metadata["unreadable"][0]


def test_scanning_again_keeps_the_ground_truth(scans, store):
    first = dataset_folders.import_folder(scans, "scans", store=store)
    truth = first.item("a")
    truth.expected_output, truth.metadata = {"votes": 1}, {"level": "scan"}
    upsert_item("scans", truth, store=store)
    Image.new("L", (300, 400), 0).save(scans / "a_page3.jpg")
    again = dataset_folders.import_folder(scans, "scans", store=store)
    assert again.version == 3 and again.item("a").input["num_pages"] == 3
    assert (again.item("a").expected_output, again.item("a").metadata) == ({"votes": 1}, {"level": "scan"})


def test_a_folder_without_scans(tmp_path, sqlite_store):
    with pytest.raises(ValueError, match="no form set in .*0 file.s. were left out"):
        dataset_folders.import_folder(tmp_path, "x", store=sqlite_store)
    touched(tmp_path, "lone.jpg")
    with pytest.raises(ValueError, match="1 file.s. were left out; name pages like <station>_page<k>"):
        dataset_folders.import_folder(tmp_path, "x", store=sqlite_store)
    for wrong in (tmp_path / "lone.jpg", tmp_path / "nothing"):
        with pytest.raises(ValueError, match="is not a folder"):
            dataset_folders.group_folder(wrong)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6), max_size=6))
def test_natural_order_sorts_anything(names):
    assert sorted(sorted(names, key=dataset_folders.natural_order), key=dataset_folders.natural_order) == sorted(
        names[::-1], key=dataset_folders.natural_order
    )


def test_a_column_of_page_images_is_looked_after_even_alone(sqlite_store, tmp_path):
    file = tmp_path / "flat.csv"
    file.write_text("id,image_paths,eligible_voters\na,pages/none_page1.jpg,100\n")
    dataset = f.import_dataset(
        file,
        "flat",
        columns=file_formats.Columns(input="image_paths", expected=["eligible_voters"]),
        store=sqlite_store,
    )
    assert dataset[0].input["image_paths"]
    kinds = {p.kind: p for p in validate_items(dataset)}
    assert set(kinds) == {"missing_image", "ground_truth"} and kinds["ground_truth"].severity == "warning"
    assert (
        "no report with form_info" in kinds["ground_truth"].message
        and "eligible_voters" in kinds["ground_truth"].message
    )


# --------------------------------------------------------------------------------- what spreadsheets write
def _rows(path, text, **options):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return [(i.input, i.expected_output) for i in read_dataset_file(path, **options).items]


@pytest.mark.parametrize("separator", [";", ",", "\t", "|"])
def test_the_separator_line_of_excel_is_no_header(separator, tmp_path):
    lines = [f"sep={separator}", separator.join(("id", "input", "expected_output")), separator.join(("a", "1", "2"))]
    for end in ("\r\n", "\n"):
        assert _rows(tmp_path / "x.csv", b"\xef\xbb\xbf" + end.join([*lines, ""]).encode()) == [(1, 2)]
    with pytest.raises(ValueError, match=r"x\.csv, line 4 \(record 2\)"):
        _rows(tmp_path / "x.csv", "\n".join([*lines, "b", ""]))


@pytest.mark.parametrize(
    "cell, value",
    [
        ("1E5", "1E5"),
        ("1e5", "1e5"),
        ("1.10", "1.10"),
        ("007", "007"),
        ("-0", "-0"),
        ("1.0", 1.0),
        ("12", 12),
        ("-3.5", -3.5),
        ("1e-7", 1e-7),
        ("2026.10", "2026.10"),
        ("12345678901234567890123", 12345678901234567890123),
        ("0.5", 0.5),
        ("1.", "1."),
        ("+1", "+1"),
    ],
)
def test_a_cell_is_a_number_only_when_it_would_be_written_so(cell, value, tmp_path):
    (found,) = _rows(tmp_path / "x.csv", f"id,input,expected_output\na,{cell},1\n")
    assert found == (value, 1) and type(found[0]) is type(value)


_KEYS = ["a\nb", "=x", "a,b", 'a"b', " a ", "1", "ก"]


@pytest.mark.parametrize("chosen", [False, True])
def test_keys_and_texts_of_any_kind_survive_a_csv_file(chosen, tmp_path):
    given = {k: v for k, v in zip(_KEYS, ["1.10", "=HYPERLINK(1)", 1.5, "-5", True, 1e300, None])}
    columns = Columns(input=_KEYS) if chosen else None
    write_dataset_file([DatasetItem("a", given, {"n": "007"})], tmp_path / "x.csv", columns=columns)
    (found,) = read_dataset_file(tmp_path / "x.csv", columns=columns).items
    assert found.input == given and found.expected_output == {"n": "007"}
    assert not re.search(r"(?m)(^|,)[=+@-][A-Z]", (tmp_path / "x.csv").read_text("utf-8-sig").partition("\na,")[2])


@pytest.mark.parametrize(
    "formula", ['=HYPERLINK("http://x","y")', "=cmd|' /C calc'!A0", "+1+1", "-1+1", "@SUM(1)", "\t=1", "＝1+1"]
)
def test_no_table_of_ours_runs_in_a_spreadsheet(formula, tmp_path):
    import pandas as pd

    from vote_experiments.files import write_csv

    write_csv(pd.DataFrame({"note": [formula, "text"], formula: ["a", "b"], "votes": [-1, 2]}), tmp_path / "t.csv")
    with open(tmp_path / "t.csv", encoding="utf-8-sig", newline="") as f:
        header, first, second = csv.reader(f)
    assert (
        header == ["note", f"'{formula}", "votes"]
        and first == [f"'{formula}", "a", "-1"]
        and second == ["text", "b", "2"]
    )
