"""Traces: written, scored with a history, filtered, carried as JSON Lines, and sent by any OpenTelemetry program."""

import subprocess
import sys
import textwrap
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from hypothesis import given, settings, strategies as st

from promises import promise
from servers.gemini_server import GeminiServer
from vote_experiments.store.database import RowInsert, Store
from vote_experiments.store.tables import observations, scores, trace_tags, traces
from vote_experiments.traces.traces import (
    TraceNotFoundError,
    add_observation,
    create_score,
    create_trace,
    get_scores,
    get_trace,
)
from vote_experiments.traces.search import delete_trace, get_traces, iter_traces, read_page, page_key
from vote_experiments.traces.trace_files import export_traces, import_traces
from vote_experiments.traces.opentelemetry import StoreSpanExporter
from vote_experiments.compat.variants import dataset_from_traces
from vote_experiments.records import Observation, Usage


# Traces ----------------------------------------------------------------------------------------------------------


def test_a_trace_is_made_once_and_changed_by_its_id(store):
    made = create_trace(name="chat", input={"q": 1}, tags=["a"], timestamp="2026-01-01", store=store)
    changed = made.update(output=[1, 2], tags=["b", "a"], user_id="u")
    assert (changed.id, changed.input, changed.output, changed.tags, changed.user_id) == (
        made.id,
        {"q": 1},
        [1, 2],
        ["a", "b"],
        "u",
    )
    assert changed.timestamp == datetime(2026, 1, 1, tzinfo=UTC)
    assert create_trace(id="mine", store=store).id == "mine"
    with store.read() as c:
        assert c.execute(sa.select(trace_tags.c.tag).order_by(trace_tags.c.tag)).scalars().all() == ["a", "b"]


@pytest.mark.parametrize(
    "wrong, error, words",
    [
        ({"colour": 1}, TypeError, "colour"),
        ({"metadata": 3}, ValueError, "metadata=3"),
        ({"tags": "a"}, ValueError, "tags='a'"),
        ({"tags": [1]}, ValueError, "not a list of texts"),
        ({"timestamp": "soon"}, ValueError, "'soon' is not a time"),
    ],
)
def test_fields_that_cannot_be_are_named(sqlite_store, wrong, error, words):
    with pytest.raises(error, match=words):
        create_trace(**wrong, store=sqlite_store)
    assert get_traces(store=sqlite_store) == []


def test_secrets_and_characters_databases_refuse_do_not_reach_the_store(store, monkeypatch):
    monkeypatch.setenv("SHOP_API_KEY", "hunter2-hunter2")
    made = create_trace(input={"header": "hunter2-hunter2"}, output="a\0b\ud800", name="hunter2-hunter2", store=store)
    assert "hunter2" not in repr(made) and made.output == "a\ufffdb?"


@promise("client-8", "client-9", "guide-differences-18")
def test_traces_are_found_by_score_with_a_limit(store):
    for i in range(10):
        create_trace(id=f"t{i}", input={"n": i}, output=f"answer {i}", store=store).score("human_verified", i / 10)
    found = get_traces(filter={"score_name": "human_verified", "score_value_gte": 0.6}, limit=3, store=store)
    assert [(t.id, t.input, t.output) for t in found] == [(f"t{i}", {"n": i}, f"answer {i}") for i in (9, 8, 7)]
    assert (
        found.data is found
        and len(get_traces({"score_name": "human_verified", "score_value_gte": 0.6}, store=store)) == 4
    )
    with pytest.raises(ValueError, match="limit=-1"):
        get_traces(limit=-1, store=store)


def test_pages_of_any_size_hold_every_trace_once_in_order(store):
    @given(st.lists(st.integers(0, 3), max_size=12), st.integers(1, 5))
    @settings(max_examples=20)
    def walk(moments, page):
        with store.write() as c:
            c.execute(sa.delete(traces))
        with store.write() as c:
            RowInsert(traces, ("id", "timestamp"), store.dialect)(
                c, [(f"t{i * 7 % 13}", m) for i, m in enumerate(moments)]
            )
        walked = [t.id for t in iter_traces(page=page, store=store)]
        assert sorted(walked) == sorted(f"t{i * 7 % 13}" for i in range(len(moments)))
        assert walked == [t.id for t in reversed(get_traces(store=store))]
        places = [page_key(t) for t in read_page(store, "traces", (), None, 100)]
        assert places == sorted(places)

    walk()


def test_a_trace_goes_with_everything_on_it(store):
    t = create_trace(tags=["a"], store=store)
    t.score("x", 1)
    t.observe(Observation("call"))
    delete_trace(t.id, store)
    with store.read() as c:
        assert all(
            c.scalar(sa.select(sa.func.count()).select_from(table)) == 0 for table in (traces, scores, trace_tags)
        )
    with pytest.raises(TraceNotFoundError, match=t.id):
        delete_trace(t.id, store)


# Scores ----------------------------------------------------------------------------------------------------------


@promise("client-23", "client-24", "client-25", "client-31", "guide-differences-20", "guide-differences-28")
def test_the_latest_score_of_a_name_is_read_and_the_history_stays(store):
    one, other = create_trace(store=store), create_trace(store=store)
    for name, value in {
        "depth": 0.5,
        "accuracy": 1,
        "coherence": True,
        "overall": 0.7,
        "ground_truth_similarity": "close",
    }.items():
        one.score(name, value)
    one.score("depth", 0.9, comment="read again")
    other.score("depth", 0.1)
    found = get_scores(trace_id=one.id, store=store)
    assert {s.name: s.value for s in found} == {
        "depth": 0.9,
        "accuracy": 1.0,
        "coherence": True,
        "overall": 0.7,
        "ground_truth_similarity": "close",
    }
    assert {s.name: s.data_type for s in found} == {
        "depth": "NUMERIC",
        "accuracy": "NUMERIC",
        "coherence": "BOOLEAN",
        "overall": "NUMERIC",
        "ground_truth_similarity": "CATEGORICAL",
    }
    assert [s.value for s in get_scores(trace_id=one.id, name="depth", history=True, store=store)] == [0.5, 0.9]
    assert (
        one.score("unsure", None).value is None
        and get_scores(trace_id=one.id, name="unsure", store=store)[0].data_type is None
    )


def test_observations_have_scores_of_their_own(store):
    t = create_trace(store=store)
    o = add_observation(t.id, Observation("call", "GENERATION", usage=Usage(10, 2, 1)), store)
    s = create_score(observation_id=o.id, name="terse", value=True, store=store)
    assert s.trace_id == t.id and [x.name for x in o.scores] == ["terse"] and t.scores == [] and o.trace.id == t.id
    assert (get_trace(t.id, store).input_tokens, get_trace(t.id, store).output_tokens) == (10, 3)


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"value": object()}, "is not a score"),
        ({"value": float("nan")}, "not a finite score"),
        ({"name": ""}, "name=''"),
        ({"data_type": "NUMBER"}, "data_type='NUMBER'"),
        ({"value": "a", "data_type": "BOOLEAN"}, "does not fit"),
        ({"trace_id": None}, "needs a trace_id"),
        ({"experiment_id": "exp_0"}, "no such experiment"),
    ],
)
def test_what_is_no_score_is_refused(sqlite_store, wrong, words):
    with pytest.raises(ValueError, match=words):
        create_score(**{"trace_id": "t", "name": "n", "value": 1, "store": sqlite_store, **wrong})
    with pytest.raises(ValueError, match="whose scores"):
        get_scores(store=sqlite_store)


# JSON Lines ------------------------------------------------------------------------------------------------------

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    lambda x: st.lists(x, max_size=3),
    max_leaves=5,
)


def test_traces_come_back_from_json_lines_as_they_were(tmp_path):
    one, other = Store(tmp_path / "one.db"), Store(tmp_path / "other.db")

    @given(st.lists(st.tuples(PLAIN, PLAIN, st.integers(0, 2), st.booleans()), min_size=1, max_size=3))
    @settings(max_examples=15)
    def there_and_back(records):
        for store in (one, other):
            with store.write() as c:
                for table in (scores, observations, trace_tags, traces):
                    c.execute(sa.delete(table))
        carry(tmp_path, one, other, records)

    there_and_back()
    one.close(), other.close()


def carry(folder, one, other, records):
    for given_input, output, n, flag in records:
        t = create_trace(
            input=given_input,
            output=output,
            bookmarked=flag,
            metadata={"k": [output]},
            tags=["ก"] * n,
            end_time=n,
            store=one,
        )
        for i in range(n):
            t.observe(
                Observation(f"call {i}", "GENERATION", 1_700_000_000.123456, input=output, usage=Usage(i, 1), model="m")
            )
            t.score("same", i, metadata={"i": i})
    export_traces(folder / "t.jsonl", store=one)
    for _ in range(2):
        assert import_traces(folder / "t.jsonl", store=other) == len(records)
    for a, b in zip(iter_traces(store=one), iter_traces(store=other), strict=True):
        assert a == b and a.observations == b.observations
        assert [
            (s.name, s.value, s.metadata, s.created_at) for s in get_scores(trace_id=a.id, history=True, store=one)
        ] == [(s.name, s.value, s.metadata, s.created_at) for s in get_scores(trace_id=b.id, history=True, store=other)]


@pytest.mark.parametrize(
    "line, words",
    [
        ("{", "line 2: "),
        ("[]", "a trace is an object"),
        ('{"colour": 1}', "no field 'colour'"),
        ('{"scores": [{"value": 1}]}', "no name"),
        ('{"scores": [{"name": "x", "value": [1]}]}', "is not a score"),
        ('{"observations": [{"hue": 1}]}', "no field 'hue'"),
        ('{"timestamp": "soon"}', "'soon' is not a time"),
        ('{"observations": 3}', "line 2"),
    ],
)
def test_a_damaged_line_is_named_and_nothing_is_stored(tmp_path, sqlite_store, line, words):
    (tmp_path / "t.jsonl").write_text('{"input": 1}\n' + line + "\n")
    with pytest.raises(ValueError, match="t.jsonl line 2") as told:
        import_traces(tmp_path / "t.jsonl", store=sqlite_store)
    assert words in str(told.value) and get_traces(store=sqlite_store) == []


# OpenTelemetry ---------------------------------------------------------------------------------------------------

PROGRAM = """
import sys
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from vote_experiments.traces.opentelemetry import StoreSpanExporter

provider = TracerProvider(resource=Resource({"service.name": "shop", "deployment.environment": "live"}))
provider.add_span_processor(BatchSpanProcessor(StoreSpanExporter(sys.argv[1]), max_export_batch_size=7))
trace.set_tracer_provider(provider)
tracer = trace.get_tracer("shop")
for i in range(20):
    with tracer.start_as_current_span("answer", attributes={"session.id": f"s{i % 2}", "langfuse.trace.tags": ["production"]}) as root:
        root.set_attribute("input.value", '{"question": %d}' % i)
        with tracer.start_as_current_span("retrieve") as s:
            s.add_event("found", {"n": 3})
        with tracer.start_as_current_span("chat m", attributes={
                "gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "gen_ai.response.model": "m-001",
                "gen_ai.usage.input_tokens": 100 + i, "gen_ai.usage.output_tokens": 10, "gen_ai.usage.reasoning_tokens": 4}):
            pass
        if i == 5:
            root.set_status(trace.Status(trace.StatusCode.ERROR, "out of ballots"))
        root.set_attribute("output.value", f"answer {i}")
provider.shutdown()
"""


def run_program(code, *arguments, **environment):
    import os

    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done


@promise("client-10")
def test_the_spans_of_an_independent_program_become_traces(store):
    pytest.importorskip("opentelemetry.sdk", reason="the OpenTelemetry SDK is not installed")
    run_program(PROGRAM, store.url)
    found = get_traces({"tags": ["production"]}, newest_first=False, store=store)
    assert [(t.name, t.input, t.output) for t in found] == [
        ("answer", {"question": i}, f"answer {i}") for i in range(20)
    ]
    first = found[0]
    assert (first.session_id, first.environment, first.metadata) == ("s0", "live", {"service": "shop"})
    assert (first.input_tokens, first.output_tokens) == (100, 10)
    assert {o.name: o.type for o in first.observations} == {
        "answer": "SPAN",
        "retrieve": "SPAN",
        "chat m": "GENERATION",
    }
    root = next(o for o in first.observations if o.name == "answer")
    chat = next(o for o in first.observations if o.type == "GENERATION")
    assert (chat.model, chat.model_version, chat.usage) == (
        "m",
        "m-001",
        Usage(100, 6, 4, 0),
    ) and chat.parent_id == root.id
    assert root.parent_id is None and first.timestamp <= chat.start_time and chat.end_time <= first.end_time
    assert [(t.level, t.status_message) for t in found if t.level == "ERROR"] == [("ERROR", "out of ballots")]
    for t in found[:3]:
        t.score("human_verified", 1)
    golden = dataset_from_traces("golden", {"score_name": "human_verified", "score_value_gte": 0.9}, store=store)
    assert [(i.input, i.expected_output, i.metadata["scores"], i.source_trace_id) for i in reversed(golden.items)] == [
        (t.input, t.output, {"human_verified": 1.0}, t.id) for t in found[:3]
    ]


GEMINI_PROGRAM = """
    import sys
    from google import genai
    from google.genai import types
    from opentelemetry.instrumentation.google_genai import GoogleGenAiSdkInstrumentor
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from vote_experiments.traces.opentelemetry import StoreSpanExporter

    store, address = sys.argv[1:]
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(StoreSpanExporter(store)))
    GoogleGenAiSdkInstrumentor().instrument(tracer_provider=provider, skip_dep_check=True)  # it knows google-genai below 3
    client = genai.Client(api_key="of-nobody-0123456789", http_options=types.HttpOptions(base_url=address))
    for question in ("อ่านหน้า 1", "อ่านหน้า 2", "อ่านหน้า 3"):
        client.models.generate_content(model="gemini-2.5-flash", contents=question, config=types.GenerateContentConfig(temperature=0.0))
    provider.shutdown()
"""


def test_the_calls_of_an_instrumented_gemini_client_become_a_golden_dataset(sqlite_store):
    pytest.importorskip(
        "opentelemetry.instrumentation.google_genai", reason="the instrumentation of google-genai is not installed"
    )
    store = sqlite_store
    with GeminiServer() as server:
        run_program(
            GEMINI_PROGRAM,
            store.url,
            server.url,
            OTEL_SEMCONV_STABILITY_OPT_IN="gen_ai_latest_experimental",
            OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT="SPAN_ONLY",
        )
        assert len(server.calls) == 3
    found = get_traces(newest_first=False, store=store)
    assert [t.input[0]["parts"][0]["content"] for t in found] == ["อ่านหน้า 1", "อ่านหน้า 2", "อ่านหน้า 3"]
    (call,) = found[0].observations
    assert (call.type, call.model, call.model_version) == ("GENERATION", "gemini-2.5-flash", "gemini-2.5-flash")
    assert call.usage.prompt_tokens > 0 and found[0].output[0]["parts"][0]["content"] and "of-nobody" not in str(found)
    for value, t in zip((1, 0, 1), found):
        t.score("human_verified", value)
    golden = dataset_from_traces("pages", {"score_name": "human_verified", "score_value_gte": 0.9}, store=store)
    assert {i.source_trace_id for i in golden.items} == {found[0].id, found[2].id}
    assert all(
        i.expected_output[0]["role"] == "assistant" and i.metadata["scores"] == {"human_verified": 1.0}
        for i in golden.items
    )


def sdk():
    trace = pytest.importorskip("opentelemetry.sdk.trace", reason="the OpenTelemetry SDK is not installed")
    export = pytest.importorskip("opentelemetry.sdk.trace.export")
    return trace, export


def tracer_into(store, resource=None):
    trace, export = sdk()
    from opentelemetry.sdk.resources import Resource

    provider = trace.TracerProvider(resource=Resource(resource or {}))
    provider.add_span_processor(export.SimpleSpanProcessor(StoreSpanExporter(store)))
    return provider.get_tracer("test")


def test_langfuse_and_openinference_names_are_understood(store):
    tracer = tracer_into(store, {"langfuse.environment": "staging"})
    with tracer.start_as_current_span(
        "langfuse",
        attributes={
            "langfuse.observation.type": "generation",
            "langfuse.observation.input": '["hi"]',
            "langfuse.observation.output": "ho",
            "langfuse.observation.model.name": "m",
            "langfuse.observation.usage_details": '{"input": 3, "output": 2}',
            "langfuse.observation.cost_details": '{"total": 0.5}',
            "langfuse.trace.name": "named",
            "langfuse.user.id": "u",
            "langfuse.trace.metadata.k": "[1]",
            "langfuse.release": "r1",
        },
    ):
        pass
    with tracer.start_as_current_span(
        "openinference",
        attributes={
            "openinference.span.kind": "LLM",
            "llm.model_name": "m2",
            "llm.token_count.prompt": 5,
            "llm.token_count.completion": 1,
            "llm.input_messages.0.message.role": "user",
            "llm.input_messages.0.message.content": "hi",
            "metadata": '{"k": "v"}',
            "tag.tags": ["x"],
        },
    ):
        pass
    with tracer.start_as_current_span(
        "indexed",
        attributes={"gen_ai.prompt.0.role": "user", "gen_ai.prompt.0.content": "one", "gen_ai.prompt.1.content": "two"},
    ) as span:
        span.add_event("gen_ai.choice", {"index": 0, "message": '{"content": "done"}'})
    lf, oi, ix = (get_traces({"name": n}, store=store)[0] for n in ("named", "openinference", "indexed"))
    assert (lf.user_id, lf.release, lf.environment, lf.metadata, lf.total_cost) == (
        "u",
        "r1",
        "staging",
        {"k": [1]},
        0.5,
    )
    g = lf.observations[0]
    assert (g.type, g.model, g.input, g.output, g.usage) == ("GENERATION", "m", ["hi"], "ho", Usage(3, 2))
    assert (
        oi.observations[0].input == [{"role": "user", "content": "hi"}]
        and oi.tags == ["x"]
        and oi.metadata == {"k": "v"}
    )
    assert oi.observations[0].usage == Usage(5, 1)
    assert ix.input == [{"role": "user", "content": "one"}, {"content": "two"}]
    assert ix.output == {"index": 0, "message": {"content": "done"}}


def test_spans_in_any_order_and_batches_make_the_same_trace(store):
    trace, export = sdk()
    memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter").InMemorySpanExporter()
    provider = trace.TracerProvider()
    provider.add_span_processor(export.SimpleSpanProcessor(memory))
    tracer = provider.get_tracer("test")
    with tracer.start_as_current_span("root", attributes={"input.value": "in"}):
        for i in range(3):
            with tracer.start_as_current_span(
                f"call {i}",
                attributes={
                    "gen_ai.operation.name": "chat",
                    "gen_ai.usage.input_tokens": 10,
                    "gen_ai.usage.output_tokens": 1,
                    "tag.tags": [f"t{i}"],
                },
            ):
                pass
    spans = memory.get_finished_spans()
    seen = []
    for k, order in enumerate([[0, 1, 2, 3], [3, 2, 1, 0], [2, 3, 0, 1]]):
        with store.write() as c:
            for table in (trace_tags, traces):
                c.execute(sa.delete(table))
            c.exec_driver_sql("DELETE FROM observations")
        exporter = StoreSpanExporter(store)
        for i in order if k else [order]:
            exporter.export([spans[j] for j in i] if isinstance(i, list) else [spans[i]])
        exporter.export(spans[:2])  # a batch sent twice
        t = get_traces(store=store)[0]
        seen.append(
            (
                t.name,
                t.input,
                sorted(t.tags),
                t.timestamp,
                t.end_time,
                t.input_tokens,
                t.output_tokens,
                len(t.observations),
            )
        )
    assert seen[0] == seen[1] == seen[2] and seen[0][0] == "root" and seen[0][5:] == (30, 3, 4)


def test_a_store_that_fails_is_told_to_opentelemetry_and_never_to_the_program(sqlite_store, caplog):
    tracer = tracer_into(sqlite_store)
    with sqlite_store.write() as c:
        c.exec_driver_sql("DROP TABLE observations")
    with tracer.start_as_current_span("fine"):
        pass
    assert "spans were not stored" in caplog.text
