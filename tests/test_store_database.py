"""The store: JSON in and out, opening, several processes, a full disk, backup"""

import json
import math
import random
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given, strategies as st

from vote_experiments.store import database as s
from vote_experiments.store import encoding
from vote_experiments.store import maintenance
from vote_experiments.store import tables

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), inner, max_size=4)
    ),
    max_leaves=20,
)
STRANGE = st.recursive(
    st.floats()
    | st.integers()
    | st.text()
    | st.binary()
    | st.datetimes()
    | st.complex_numbers()
    | st.just(object())
    | st.sets(st.integers())
    | st.just(Path("x/y")),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.integers() | st.text() | st.tuples(st.text()), inner, max_size=3)
    ),
    max_leaves=10,
)


# JSON ------------------------------------------------------------------------------------------------------------


@given(PLAIN)
def test_json_values_come_back_as_they_were(value):
    back = encoding.decode_json(encoding.encode_json(value))
    assert back == value and repr(back) == repr(value)


@given(STRANGE)
def test_every_value_becomes_json_that_both_databases_take(value):
    text = encoding.encode_json(value)
    json.loads(text, parse_constant=pytest.fail)
    assert "\\u0000" not in text.replace("\\\\", "") and "\0" not in text
    text.encode("utf-8")


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), PLAIN, min_size=2, max_size=5))
def test_sorted_keys_give_one_text_for_one_content(value):
    assert encoding.encode_json(dict(reversed(value.items())), sort_keys=True) == encoding.encode_json(
        value, sort_keys=True
    )


@pytest.mark.parametrize("text", [r"a \u0000 b", r"\\u0000", "\\", "\\\\u0000\x01"])
def test_written_out_escapes_are_not_taken_for_nul(text):
    assert encoding.decode_json(encoding.encode_json(text)) == text


def test_what_json_cannot_say_becomes_null_or_a_mark():
    assert encoding.decode_json(encoding.encode_json([math.nan, math.inf, "a\0b", "\ud800"])) == [
        None,
        None,
        "a\ufffdb",
        "?",
    ]
    assert encoding.decode_json(encoding.encode_json({"page": Path("f/p1.jpg")})) == {"page": "f/p1.jpg"}


class Broken:
    def __repr__(self):
        raise RuntimeError("no")

    def to_dict(self):
        raise RuntimeError("no")


def test_what_cannot_even_be_shown_is_named():
    assert "Broken" in encoding.encode_json({"x": Broken(), "y": 2**80})
    assert "6001 digits" in encoding.encode_json({"x": 10**6000})


@given(st.text() | st.none())
def test_clean_text_is_utf8_without_nul(text):
    clean = encoding.clean_text(text)
    assert clean is None if text is None else ("\0" not in clean and clean.encode().decode() == clean)


# Time and identifiers --------------------------------------------------------------------------------------------


@given(st.datetimes(min_value=datetime(1971, 1, 1), max_value=datetime(2200, 1, 1)))
def test_moments_come_back_to_the_microsecond(moment):
    assert encoding.from_us(encoding.to_us(moment)) == moment.replace(tzinfo=UTC)
    assert encoding.to_us(moment.isoformat()) == encoding.to_us(moment)


def test_identifiers_are_their_own_and_sort_by_time():
    ids = [encoding.new_id("exp") for _ in range(1000)]
    assert [i[:14] for i in ids] == sorted(i[:14] for i in ids)
    assert len(set(ids[:20])) == 20  # 24 random bits: of 1,000 in one millisecond two are the same now and then
    assert len({encoding.new_trace_id() for _ in range(1000)}) == 1000


# Opening ---------------------------------------------------------------------------------------------------------


def test_a_store_keeps_json_text_exactly(store):
    value = {"ชื่อ": "กำนัน", "quote": "'\"%s?:x", "nested": [{"n": None}]}
    with store.write() as c:
        s.RowInsert(tables.store_info, ("key", "value"), store.dialect)(
            c, [("a", encoding.encode_json(value)), ("b", "100%")]
        )
    with store.read() as c:
        rows = dict(c.execute(sa.select(tables.store_info.c.key, tables.store_info.c.value)).tuples().all())
    assert encoding.decode_json(rows["a"]) == value and rows["b"] == "100%"


def test_a_write_is_whole_or_nothing(store):
    with pytest.raises(ZeroDivisionError), store.write() as c:
        c.execute(sa.insert(tables.projects).values(name="p", created_at=1))
        _ = 1 / 0
    with store.read() as c:
        assert c.scalar(sa.select(sa.func.count()).select_from(tables.projects)) == 0


def test_a_store_opens_again_and_a_newer_one_is_refused(store):
    url = store.url
    s.Store(url).close()
    with store.write() as c:
        c.execute(sa.update(tables.store_info).where(tables.store_info.c.key == "schema_version").values(value="99"))
    with pytest.raises(s.StoreError, match="newer version .schema 99.*upgrade"):
        s.Store(url)


def as_version_2(store):
    "Take out of a store what version 3 added"
    with store.write() as c:
        for table in ("annotations", "adjudications", "review_flags"):
            c.exec_driver_sql(f"DROP TABLE {table}")
        c.execute(sa.update(tables.store_info).values(value="2"))


def as_version_1(store):
    "Take out of a store what versions 2 and 3 added"
    as_version_2(store)
    with store.write() as c:
        for table in ("batch_items", "batches"):
            c.exec_driver_sql(f"DROP TABLE {table}")
        for index in (
            "scores_trace",
            "scores_observation",
            "scores_batch",
            "traces_experiment",
            "traces_user",
            "traces_session",
        ):
            c.exec_driver_sql(f"DROP INDEX ix_{index}")
        c.exec_driver_sql("ALTER TABLE scores DROP COLUMN evaluator")
        c.exec_driver_sql("CREATE INDEX ix_scores_trace_id ON scores (trace_id)")
        c.exec_driver_sql("CREATE INDEX ix_traces_experiment_id ON traces (experiment_id)")
        c.execute(sa.update(tables.store_info).values(value="1"))


def shape(store):
    "Tables, columns and indexes"
    seen = sa.inspect(store.engine)
    catalogue = (
        "SELECT name FROM sqlite_master WHERE type = 'index'"
        if store.dialect == "sqlite"
        else "SELECT indexname FROM pg_indexes WHERE schemaname = current_schema()"
    )
    with store.read() as c:
        indexes = sorted(c.exec_driver_sql(catalogue).scalars())
    return {t: sorted(c["name"] for c in seen.get_columns(t)) for t in sorted(seen.get_table_names())}, indexes


def test_a_store_of_version_2_gets_the_tables_of_version_3_and_keeps_its_rows(store):
    new = shape(store)
    as_version_2(store)
    with store.write() as c:
        s.RowInsert(tables.datasets, ("id", "name", "created_at"), store.dialect)(c, [("ds_1", "kept", 1)])
    assert shape(store) != new
    s.Store(store.url).close()
    assert shape(store) == new
    with store.read() as c:
        assert c.execute(sa.select(tables.datasets.c.name)).scalars().all() == ["kept"]


def test_an_older_store_is_brought_up_to_date_with_its_rows(store):
    new = shape(store)
    as_version_1(store)
    with store.write() as c:
        s.RowInsert(tables.scores, ("trace_id", "name", "value_number", "created_at"), store.dialect)(
            c, [("t", "kept", 0.5, 1)]
        )
    assert shape(store) != new
    s.Store(store.url).close()
    assert shape(store) == new
    s.Store(store.url).close()
    with store.read() as c:
        assert c.execute(sa.select(tables.scores.c.name, tables.scores.c.evaluator)).all() == [("kept", None)]
        assert c.scalar(sa.select(tables.store_info.c.value)) == str(tables.SCHEMA_VERSION)


def test_an_upgrade_that_fails_leaves_the_store_as_it_was(store, monkeypatch):
    as_version_1(store)
    old = shape(store)
    monkeypatch.setitem(s.MIGRATIONS, 1, (*s.MIGRATIONS[1], "ALTER TABLE nothing ADD COLUMN x TEXT"))
    with pytest.raises(Exception, match="nothing"):
        s.Store(store.url)
    assert shape(store) == old


def test_a_complete_store_opens_while_another_connection_writes(sqlite_store):
    with sqlite_store.write():
        s.Store(sqlite_store.path).close()


def test_a_store_that_cannot_be_made_says_why(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(s.StoreError, match="file"):
        s.Store(tmp_path / "file" / "store.db")


def test_a_password_is_not_shown():
    with pytest.raises(s.StoreError) as e:
        s.Store("postgresql+psycopg://me:hunter2secret@127.0.0.1:9/none")
    assert "hunter2secret" not in str(e.value) and "127.0.0.1" in str(e.value)


# Many rows -------------------------------------------------------------------------------------------------------


def test_every_row_arrives_as_it_was_however_often_a_column_repeats_itself(store):
    rng, columns = random.Random(5), ("id", "timestamp", "name", "input", "total_cost", "bookmarked", "level")
    pools = {"name": ["a"], "input": [None], "total_cost": [0.5], "bookmarked": [1], "level": [None]}
    more = {
        "name": ["ข", '"{%s},\\'],
        "input": ['{"n": "?1"}', "NULL", ""],
        "total_cost": [None, 2],
        "bookmarked": [0, True],
        "level": ["ERROR"],
    }
    insert, expected = s.RowInsert(tables.traces, columns, store.dialect), []
    for batch, n in enumerate((1, 1, 7, 0, 131, 2, 2777, 1, 640, 26, 5, 1)):
        if batch % 2 and more:  # a column that was the same everywhere begins to vary, one after the other
            name = list(more)[0]
            pools[name] += more.pop(name)
        rows = [(f"t{len(expected) + i:05d}", 7, *(rng.choice(pools[c]) for c in columns[2:])) for i in range(n)]
        with store.write() as c:
            insert(c, rows)
        expected += rows
    with store.read() as c:
        assert [
            tuple(r) for r in c.execute(sa.select(*(tables.traces.c[k] for k in columns)).order_by(tables.traces.c.id))
        ] == expected


@pytest.mark.postgres
@pytest.mark.parametrize("most", [1, 300, 10**6])
def test_texts_beyond_what_an_array_takes_go_in_parts(postgres_store, monkeypatch, most):
    monkeypatch.setattr(s, "_MOST_LETTERS", most)
    rows = [(f"p{i}", i, None if i % 7 == 0 else "ย" * (i % 50)) for i in range(230)]
    with postgres_store.write() as c:
        s.RowInsert(tables.traces, ("id", "timestamp", "input"), "postgresql")(c, rows)
    with postgres_store.read() as c:
        assert (
            c.execute(
                sa.select(tables.traces.c.id, tables.traces.c.timestamp, tables.traces.c.input).order_by(
                    tables.traces.c.timestamp
                )
            )
            .tuples()
            .all()
            == rows
        )


@pytest.mark.postgres
@pytest.mark.parametrize("rows", [[("k" * 41, "v")], [("k", "v"), ("l" * 41, "v")]])
def test_a_text_beyond_its_column_is_refused_not_cut(postgres_store, rows):
    with pytest.raises(sa.exc.DataError, match="too long"), postgres_store.write() as c:
        s.RowInsert(tables.store_info, ("key", "value"), "postgresql")(c, rows)


# Several at once -------------------------------------------------------------------------------------------------

WRITER = """
import sys
from vote_experiments.store.database import RowInsert, Store
from vote_experiments.store.tables import projects
store = Store(sys.argv[1])
insert = RowInsert(projects, ("name", "created_at"), store.dialect)
for batch in range(20):
    with store.write() as c:
        insert(c, [(f"{sys.argv[2]}-{batch}-{k}", batch) for k in range(37)])
"""


def test_two_processes_create_and_write_one_store_at_once(tmp_path):
    path = tmp_path / "new" / "store.db"
    workers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), name], stderr=subprocess.PIPE) for name in "ab"
    ]
    for w in workers:
        _, err = w.communicate(timeout=60)
        assert w.returncode == 0, err.decode()
    store = s.Store(path)
    with store.read() as c:
        assert c.scalar(sa.select(sa.func.count()).select_from(tables.projects)) == 2 * 20 * 37
    assert maintenance.check_store(store) == []
    store.close()


# Faults ----------------------------------------------------------------------------------------------------------


def test_a_full_disk_is_told_in_words_and_the_store_stays_sound(sqlite_store):
    insert = s.RowInsert(tables.projects, ("name", "created_at"), "sqlite")
    with sqlite_store.write() as c:
        insert(c, [("before", 1)])

    @sa.event.listens_for(sqlite_store.engine, "connect")
    def _small(connection, _record):
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count={pages + 5}")

    sqlite_store.engine.dispose()

    with pytest.raises(s.StoreError, match="full.*What was stored is safe.*resume="), sqlite_store.write() as c:
        insert(c, [(f"{i} {'x' * 1000}", 1) for i in range(1000)])
    with sqlite_store.read() as c:
        assert list(c.scalars(sa.select(tables.projects.c.name))) == ["before"]
    assert maintenance.check_store(sqlite_store) == []


def test_a_store_damaged_while_open_is_told_in_words(sqlite_store):
    with sqlite_store.write() as c:
        s.RowInsert(tables.projects, ("name", "created_at"), "sqlite")(
            c, [(f"{i} {'x' * 100}", 1) for i in range(3000)]
        )
    with sqlite_store.read() as c:
        c.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    sqlite_store.close()
    raw = bytearray(sqlite_store.path.read_bytes())
    raw[4096 * 2 :] = b"\xab" * (len(raw) - 4096 * 2)
    sqlite_store.path.write_bytes(raw)
    with pytest.raises(s.StoreError, match="not a readable store|failed"), sqlite_store.write() as c:
        s.RowInsert(tables.projects, ("name", "created_at"), "sqlite")(c, [("one more", 1)])


# Backup ----------------------------------------------------------------------------------------------------------


def test_a_backup_of_a_store_in_use_is_complete_and_sound(sqlite_store, tmp_path):
    insert = s.RowInsert(tables.projects, ("name", "created_at"), "sqlite")
    with sqlite_store.write() as c:
        insert(c, [(f"p{i}", i) for i in range(500)])
    copied = s.Store(maintenance.backup_store(sqlite_store, tmp_path / "deep" / "copy.db"))
    with copied.read() as c:
        assert c.scalar(sa.select(sa.func.count()).select_from(tables.projects)) == 500
    assert maintenance.check_store(copied) == []
    copied.close()
    with pytest.raises(s.StoreError, match="exists already"):
        maintenance.backup_store(sqlite_store, tmp_path / "deep" / "copy.db")


def test_a_broken_link_between_rows_is_found(sqlite_store):
    with sqlite_store.engine.connect() as c:
        raw = c.connection.dbapi_connection
        raw.execute("PRAGMA foreign_keys=OFF")
        raw.execute("INSERT INTO trace_tags VALUES ('t', 'nobody')")
        raw.execute("PRAGMA foreign_keys=ON")
    assert "missing traces" in maintenance.check_store(sqlite_store)[0]
