"""The filter grammar: three spellings, exact errors, the same rows as a plain-Python reading of it, indexes used."""

import json
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from hypothesis import given, settings, strategies as st

from promises import promise
from vote_experiments.traces.filters import COLUMNS, OPERATORS, compile_filter, parse_filter
from vote_experiments.store.database import RowInsert
from vote_experiments.store.encoding import decode_json, encode_json, to_us
from vote_experiments.store.tables import observations, scores, trace_tags, traces

# A store full of awkward values ----------------------------------------------------------------------------------

WORDS = ("a", "b", "ab", "a'b", 'a"b', "a%b", "a_b", "A", "กา", "", "a b", "\\", "a\\b", "x" * 60)
KEYS = ("k", "n", "a.b", 'q"t', "$", "k[0]", "'", "กา")
DAY = 86_400_000_000


def some(rng, values, missing=0.3):
    return None if rng.random() < missing else rng.choice(values)


def metadata(rng):
    kind = rng.random()
    if kind < 0.1:
        return None
    if kind < 0.15:
        return ["k", 1]
    values = [*WORDS, 0, 1, 2.5, -1, 1e300, 0.1, True, False, None, {"k": "a"}, [1]]
    return {rng.choice(KEYS): rng.choice(values) for _ in range(rng.randint(0, 4))}


def fill(store, n=80, seed=1):
    "Random rows, and the same as plain Python"
    import random

    rng = random.Random(seed)
    rows, seen = [], []
    tags, all_scores = [], []
    for i in range(n):
        start = to_us("2024-01-01") + rng.randint(0, 10) * DAY
        row = {
            "id": f"t{i:03d}",
            "timestamp": start,
            "end_time": some(rng, [start + rng.randint(0, 4) * 500_000]),
            "name": some(rng, WORDS),
            "user_id": some(rng, WORDS),
            "session_id": some(rng, WORDS),
            "environment": some(rng, WORDS),
            "version": some(rng, WORDS),
            "release": some(rng, WORDS),
            "level": some(rng, ("DEFAULT", "ERROR")),
            "bookmarked": some(rng, (0, 1)),
            "metadata": metadata(rng),
            "input_tokens": some(rng, (0, 1, 5)),
            "output_tokens": some(rng, (0, 1, 5)),
            "total_cost": some(rng, (0.0, 0.25, 1.5)),
            "experiment_id": some(rng, ("e1", "e2")),
        }
        its = sorted({rng.choice(WORDS) for _ in range(rng.randint(0, 3))} - {""})
        tags += [(t, row["id"]) for t in its]
        current = {}
        for _ in range(rng.randint(0, 4)):
            name = rng.choice(KEYS[:3])
            kind = rng.choice(("NUMERIC", "BOOLEAN", "CATEGORICAL", None, "ERROR", "OBSERVATION"))
            number = (
                rng.choice((0.0, 1.0))
                if kind == "BOOLEAN"
                else rng.choice((0.0, 0.5, 1.0, -3.0))
                if kind == "NUMERIC"
                else None
            )
            text = rng.choice(WORDS) if kind == "CATEGORICAL" else None
            source = "ERROR" if kind == "ERROR" else "EVAL"
            on = "o1" if kind == "OBSERVATION" else None
            stored_kind = None if kind == "ERROR" else "NUMERIC" if on else kind
            all_scores.append((row["id"], on, name, 1.0 if on else number, text, stored_kind, source, i))
            if source != "ERROR" and not on:
                current[name] = (stored_kind, number, text)
        rows.append(row)
        seen.append({**row, "tags": its, "scores": current})
    with store.write() as c:
        columns = tuple(rows[0])
        RowInsert(traces, columns, store.dialect)(
            c, [tuple(encode_json(r[k]) if k == "metadata" else r[k] for k in columns) for r in rows]
        )
        RowInsert(trace_tags, ("tag", "trace_id"), store.dialect)(c, tags)
        RowInsert(
            scores,
            ("trace_id", "observation_id", "name", "value_number", "value_text", "data_type", "source", "created_at"),
            store.dialect,
        )(c, all_scores)
    return seen


# The grammar, read by plain Python -------------------------------------------------------------------------------

PLAIN = {
    "userId": "user_id",
    "sessionId": "session_id",
    "dataset_run_id": "experiment_id",
    "inputTokens": "input_tokens",
    "outputTokens": "output_tokens",
    "totalCost": "total_cost",
}
NUMBER = {
    "=": lambda a, b: a == b,
    ">": lambda a, b: a > b,
    "<": lambda a, b: a < b,
    ">=": lambda a, b: a >= b,
    "<=": lambda a, b: a <= b,
}
TEXT = {
    "=": lambda a, b: a == b,
    "contains": lambda a, b: b in a,
    "starts with": str.startswith,
    "ends with": str.endswith,
}


def value_of(row, column):
    if column == "latency":
        return None if row["end_time"] is None else (row["end_time"] - row["timestamp"]) / 1e6
    if column == "totalTokens":
        known = [t for t in (row["input_tokens"], row["output_tokens"]) if t is not None]
        return sum(known) if known else None
    return row[PLAIN.get(column, column)]


def holds(row, c):
    "Whether a condition of the list form holds for a row"
    kind, operator, value, key = c["type"], c["operator"], c.get("value"), c.get("key")
    if operator in ("does not contain", "none of", "<>", "is null"):
        positive = {"does not contain": "contains", "none of": "any of", "<>": "=", "is null": "is not null"}[operator]
        return not holds(row, {**c, "operator": positive})
    if c["column"].startswith("score"):
        data_type, number, text = row["scores"].get(key, (None, None, None))
        if c["column"] == "scores_avg":
            return number is not None and NUMBER[operator](number, value)
        if c["column"] == "score_booleans":
            return data_type == "BOOLEAN" and bool(number) == value
        return data_type == "CATEGORICAL" and text in value
    found = value_of(row, c["column"])
    if kind == "null":
        return found is not None
    if kind == "arrayOptions":
        return set(value) <= set(found) if operator == "all of" else bool(set(value) & set(found))
    if kind == "boolean":
        return bool(found) == value
    if kind.endswith("Object"):
        if not isinstance(found, dict) or key not in found:
            return False
        found, wanted = found[key], {"stringObject": str, "numberObject": (int, float), "booleanObject": bool}[kind]
        if not isinstance(found, wanted) or (isinstance(found, bool) and kind == "numberObject"):
            return False
    if found is None:
        return False
    if kind == "stringOptions":
        return found in value
    if kind == "datetime":
        return NUMBER[operator](found, to_us(value))
    return (TEXT if isinstance(found, str) else NUMBER)[operator](found, value)


# Random conditions -----------------------------------------------------------------------------------------------

TEXTS = st.sampled_from(WORDS) | st.text(max_size=3)
VALUES = {
    "string": TEXTS,
    "stringObject": TEXTS,
    "number": st.sampled_from([0, 0.0, 0.5, 1, 2, 5, 6, 1.5, -1, 0.25]) | st.floats(-10, 10),
    "numberObject": st.sampled_from([0, 1, 2.5, -1, 1e300, 0.1, 0.5])
    | st.floats(allow_nan=False, allow_infinity=False),
    "stringOptions": st.lists(TEXTS, max_size=3),
    "categoryOptions": st.lists(TEXTS, max_size=3),
    "arrayOptions": st.lists(st.sampled_from(WORDS), max_size=3),
    "boolean": st.booleans(),
    "booleanObject": st.booleans(),
    "null": st.none(),
    "datetime": st.datetimes(datetime(2023, 12, 30), datetime(2024, 1, 14)).map(
        lambda d: d.replace(tzinfo=UTC).isoformat()
    )
    | st.integers(1, 11).map(lambda d: f"2024-01-{d:02d}"),
}


@st.composite
def conditions(draw):
    column = draw(st.sampled_from(sorted(COLUMNS["traces"])))
    kind = draw(st.sampled_from(COLUMNS["traces"][column].types))
    found = {
        "type": kind,
        "column": column,
        "operator": draw(st.sampled_from(OPERATORS[kind])),
        "value": draw(VALUES[kind]),
    }
    if kind.endswith("Object") or kind == "categoryOptions":
        found["key"] = draw(st.sampled_from(KEYS))
    return found


def rows_of(store, filter, scope="traces"):
    table = {"traces": traces, "observations": observations}[scope]
    with store.read() as c:
        query = sa.select(table.c.id).where(*compile_filter(filter, scope, store.dialect)).order_by(table.c.id)
        return list(c.scalars(query))


@promise("batch-evaluation-88")
def test_random_filters_give_the_rows_a_plain_reading_of_the_grammar_gives(store):
    rows = fill(store)

    @settings(max_examples=80)
    @given(st.lists(conditions(), min_size=1, max_size=3), st.booleans())
    def agree(its, as_text):
        filter = json.dumps(its) if as_text else its
        assert rows_of(store, filter) == [
            r["id"] for r in rows if all(holds(r, {**c, "value": cleaned(c["value"])}) for c in its)
        ]

    agree()


def cleaned(value):
    "Text as both databases take it"
    if isinstance(value, list):
        return [cleaned(v) for v in value]
    return decode_json(encode_json(value)) if isinstance(value, str) else value


# Spellings -------------------------------------------------------------------------------------------------------


@promise(
    "batch-evaluation-54",
    "batch-evaluation-55",
    "batch-evaluation-56",
    "batch-evaluation-57",
    "batch-evaluation-88",
    "guide-differences-9",
)
def test_three_spellings_say_the_same(store):
    rows = fill(store)
    listed = [
        {"type": "string", "column": "userId", "operator": "=", "value": "ab"},
        {"type": "datetime", "column": "timestamp", "operator": ">", "value": "2024-01-02"},
    ]
    spoken = {"user_id": "ab", "timestamp": {"operator": ">", "value": "2024-01-02"}}
    expected = [r["id"] for r in rows if r["user_id"] == "ab" and r["timestamp"] > to_us("2024-01-02")]
    assert expected
    for filter in (listed, spoken, json.dumps(listed), json.dumps(spoken), parse_filter(spoken)):
        assert rows_of(store, filter) == expected
    tagged = [r["id"] for r in rows if "a%b" in r["tags"]]
    assert tagged and rows_of(store, '{"tags": ["a%b"]}') == rows_of(store, {"tags": "a%b"}) == tagged
    assert rows_of(store, None) == rows_of(store, "") == rows_of(store, {}) == [r["id"] for r in rows]


@promise("client-8", "client-11")
def test_scores_names_users_and_times_in_the_short_spelling(store):
    rows = fill(store)

    def numbers(test):
        return [r["id"] for r in rows if (v := r["scores"].get("k", (0, None))[1]) is not None and test(v)]

    for bound, test in {
        "gte": lambda v: v >= 0.5,
        "gt": lambda v: v > 0.5,
        "lte": lambda v: v <= 0.5,
        "lt": lambda v: v < 0.5,
        "eq": lambda v: v == 0.5,
    }.items():
        assert rows_of(store, {"score_name": "k", f"score_value_{bound}": 0.5}) == numbers(test)
    assert rows_of(store, {"score_name": "k", "score_value_gt": 0, "score_value_lt": 1}) == numbers(lambda v: 0 < v < 1)
    assert rows_of(store, {"score_name": "k", "score_value": True}) == [
        r["id"] for r in rows if r["scores"].get("k", (None,))[:2] == ("BOOLEAN", 1.0)
    ]
    assert rows_of(store, {"score_name": "k", "score_value": "ab"}) == [
        r["id"] for r in rows if r["scores"].get("k") == ("CATEGORICAL", None, "ab")
    ]
    first, last = to_us("2024-01-03"), to_us("2024-01-05")
    between = [r["id"] for r in rows if first <= r["timestamp"] < last]
    assert rows_of(store, {"from_timestamp": "2024-01-03", "to_timestamp": "2024-01-05"}) == between
    assert (
        rows_of(
            store,
            {
                "timestamp": [
                    {"operator": ">=", "value": datetime(2024, 1, 3)},
                    {"operator": "<", "value": "2024-01-05T00:00:00Z"},
                ]
            },
        )
        == between
    )
    assert rows_of(store, {"name": ["ab", "กา"], "user_id": None}) == [
        r["id"] for r in rows if r["name"] in ("ab", "กา") and r["user_id"] is None
    ]
    assert rows_of(store, {"bookmarked": True, "metadata": {"k": "a"}}) == [
        r["id"] for r in rows if r["bookmarked"] and isinstance(r["metadata"], dict) and r["metadata"].get("k") == "a"
    ]
    assert rows_of(store, {"metadata": {"operator": ">=", "value": 1, "key": "n"}}) == [
        r["id"]
        for r in rows
        if isinstance(r["metadata"], dict)
        and isinstance(r["metadata"].get("n"), (int, float))
        and not isinstance(r["metadata"]["n"], bool)
        and r["metadata"]["n"] >= 1
    ]


@promise("batch-evaluation-86")
def test_observations_have_columns_of_their_own_and_the_run_of_their_trace(store):
    with store.write() as c:
        RowInsert(traces, ("id", "timestamp", "experiment_id"), store.dialect)(c, [("t1", 1, "e1"), ("t2", 2, None)])
        RowInsert(trace_tags, ("tag", "trace_id"), store.dialect)(c, [("live", "t2")])
        columns = (
            "id",
            "trace_id",
            "type",
            "name",
            "start_time",
            "end_time",
            "model",
            "prompt_tokens",
            "output_tokens",
            "cost_usd",
            "input",
            "output",
            "metadata",
            "level",
        )
        RowInsert(observations, columns, store.dialect)(
            c,
            [
                (
                    "o1",
                    "t1",
                    "GENERATION",
                    "read",
                    DAY,
                    DAY + 2_000_000,
                    "flash",
                    900,
                    20,
                    0.5,
                    '"hello page"',
                    '{"a":1}',
                    '{"k":"v"}',
                    "DEFAULT",
                ),
                ("o2", "t2", "SPAN", "look", 2 * DAY, None, None, None, None, None, '{"page":3}', None, None, "ERROR"),
            ],
        )
    for filter, ids in [
        ({"type": "GENERATION"}, "o1"),
        ({"trace_id": "t2"}, "o2"),
        ({"experiment_id": "e1"}, "o1"),
        ({"dataset_run_id": "e1"}, "o1"),
        ({"tags": ["live"]}, "o2"),
        ({"model": ["flash", "pro"]}, "o1"),
        ({"tokens": {"operator": ">", "value": 900}}, "o1"),
        ({"cost": {"operator": ">=", "value": 0.5}}, "o1"),
        ({"latency": {"operator": "=", "value": 2}}, "o1"),
        ({"input": "hello page"}, "o1"),
        ({"input": {"operator": "contains", "value": '"page":'}}, "o2"),
        ({"output": None}, "o2"),
        ({"start_time": {"operator": ">", "value": "1970-01-02T12:00:00Z"}}, "o2"),
        ({"metadata": {"k": "v"}}, "o1"),
        ({"level": "ERROR"}, "o2"),
        ({"from_timestamp": "1970-01-03"}, "o2"),
        ([{"type": "stringOptions", "column": "model", "operator": "none of", "value": ["flash"]}], "o2"),
    ]:
        assert rows_of(store, filter, "observations") == [ids], filter


# What is refused -------------------------------------------------------------------------------------------------


@promise("batch-evaluation-88", "guide-differences-9")
@pytest.mark.parametrize(
    "filter, words",
    [
        ({"colour": "red"}, "no column 'colour'; they have id, name"),
        ("{not json", "not JSON"),
        ("3", "filter=3"),
        (3, "filter=3"),
        ([1], "1 is not a condition"),
        ({"timestamp": "2024-01-01"}, "a time is compared"),
        ({"name": 3}, "3 is not a text"),
        ({"latency": "slow"}, "'slow' is not a finite number"),
        ({"latency": True}, "True is not a finite number"),
        ({"latency": {"operator": ">", "value": float("nan")}}, "nan is not a finite"),
        ({"bookmarked": 1}, "1 is not true or false"),
        ({"latency": {"operator": ">", "value": 10**400}}, "not a finite number"),
        ({"tags": [1]}, "1 is not a text"),
        ({"timestamp": {"operator": ">", "value": "yesterday"}}, "'yesterday' is not a time"),
        ({"timestamp": {"operator": "=", "value": "2024-01-01"}}, "operator '='"),
        ({"name": {"operator": "~", "value": "x"}}, "operator '~'"),
        ({"score_name": "x"}, "and a bound"),
        ({"score_value_gte": 1}, "score_name"),
        ({"score_name": "x", "score_value_near": 1}, "score_value_near"),
        ([{"type": "string", "column": "name", "operator": "=", "value": "x", "colour": 1}], "no field 'colour'"),
        ([{"type": "text", "column": "name", "operator": "=", "value": "x"}], "type 'text' is not one of 'string'"),
        ([{"type": "number", "column": "name", "operator": "=", "value": 1}], "type 'number'"),
        ([{"type": "stringObject", "column": "metadata", "operator": "=", "value": "x"}], "needs a 'key'"),
        ([{"type": "arrayOptions", "column": "tags", "operator": "any of", "value": "x"}], "not a list of texts"),
    ],
)
def test_what_the_grammar_does_not_know_is_named(filter, words):
    with pytest.raises(ValueError, match="^filter") as told:
        compile_filter(filter)
    assert words in str(told.value)


def test_scopes_are_checked_and_observations_have_no_scores():
    with pytest.raises(ValueError, match="scope='spans'.*'traces', 'observations'"):
        compile_filter(None, "spans")
    with pytest.raises(ValueError, match="observations have no scores"):
        compile_filter({"score_name": "x", "score_value_gte": 1}, "observations")
    with pytest.raises(ValueError, match="no column 'user_id'"):
        compile_filter({"user_id": "x"}, "observations")


# Indexes ---------------------------------------------------------------------------------------------------------


def plan_of(store, filter):
    query = (
        sa.select(traces.c.id)
        .where(*compile_filter(filter, "traces", store.dialect))
        .order_by(traces.c.timestamp, traces.c.id)
        .limit(50)
    )
    text = str(query.compile(store.engine, compile_kwargs={"literal_binds": True}))
    with store.read() as c:
        if store.dialect == "sqlite":
            return " / ".join(r[3] for r in c.exec_driver_sql("EXPLAIN QUERY PLAN " + text))
        c.exec_driver_sql("ANALYZE")  # or the plan depends on whether PostgreSQL has looked by itself already
        c.exec_driver_sql("SET LOCAL enable_seqscan = off")  # few rows: a scan would be quicker
        return " / ".join(r[0] for r in c.exec_driver_sql("EXPLAIN " + text.replace("%", "%%")))


@promise("batch-evaluation-88")
@pytest.mark.parametrize(
    "filter, indexes",
    [
        (None, ["ix_traces_time"]),
        ({"user_id": "ab"}, ["ix_traces_user"]),
        ({"session_id": "ab"}, ["ix_traces_session"]),
        ({"experiment_id": "e1"}, ["ix_traces_experiment"]),
        ({"from_timestamp": "2024-01-03"}, ["ix_traces_time"]),
        ({"tags": ["ab"]}, ["ix_traces|traces_pkey", "trace_tags|trace_tags_pkey"]),
        # so few scores that PostgreSQL is free to take either of their indexes; SQLite has to take the narrow one
        ({"score_name": "k", "score_value_gte": 0.5}, ["ix_traces|traces_pkey", "ix_scores_trace|ix_scores_value"]),
    ],
)
def test_filters_use_indexes_and_rows_come_in_their_order(store, filter, indexes):
    fill(store)
    plan = plan_of(store, filter)
    for one in indexes:
        assert any(name in plan for name in one.split("|")), plan
    if store.dialect == "sqlite":
        assert "TEMP B-TREE" not in plan and "SCAN scores" not in plan and "SCAN trace_tags" not in plan, plan
        assert "ix_scores_value" not in plan, plan
