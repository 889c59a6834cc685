"""The experiment form without a browser: every control, and everything that can go wrong, said where someone looks"""

import asyncio
import html
import json
import os
import re
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import ipywidgets as w
import pytest
from PIL import Image

from vote_experiments.datasets.saving import delete_dataset, save_dataset
from vote_experiments.store.runs import get_group, list_experiments, list_groups
from vote_experiments.store.run_totals import status_counts
from vote_experiments.store.database import Store
from vote_experiments.server.jobs import cancel_job, get_job, list_jobs, submit_job, wait_for_job
from vote_experiments.experiments.comparison import run_model_experiments
from vote_experiments.experiments.request import fields_of
from vote_experiments.widgets import local_runs
from vote_experiments.widgets.config_rows import ConfigRows
from vote_experiments.widgets.experiment_form import ExperimentForm, RequestProblem
from vote_experiments.widgets.sections import DATADOG_SITES
from vote_experiments.widgets.request_view import as_python
from vote_experiments.widgets.controls import progress_words
from vote_experiments.widgets.server_runs import ServerRuns
from vote_experiments.widgets.local_runs import StoreRuns
from vote_experiments.html.translations import Words
from vote_experiments.models.registry import forget_model, register_model
from vote_experiments.settings import OFFLINE_MODELS, PRESETS, VARIABLES

TRUTH = {"form_info": {"form_type": "Constituency"}, "vote_results": [{"number": 1, "vote_count": 200}]}
SCRIPT = '<script>window.pwned=1</script><img src=x onerror="window.pwned=2">'
say = Words("form")


async def slow(images, config):
    await asyncio.sleep(0.05)
    return {"reports": [TRUTH]}


def torn(images, config):
    raise OSError(f"the page is torn {SCRIPT}")


def hostile(images, config):
    return {"reports": [{"form_info": {"form_type": SCRIPT}, "vote_results": [{"number": 1, "vote_count": SCRIPT}]}]}


def half(images, config):
    if images[0].startswith(("0", "1")):
        raise OSError("the page is torn")
    return {"reports": [TRUTH]}


MODELS = {
    "slow": slow,
    "torn": torn,
    "hostile": hostile,
    "half": half,
    "quick": lambda images, config: {"reports": [TRUTH]},
}


@pytest.fixture
def home(sqlite_store, tmp_path, monkeypatch):
    for variable in VARIABLES:
        monkeypatch.delenv(variable.name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VOTE_EXPERIMENTS_RUNS", str(tmp_path / "runs"))
    stations(sqlite_store)
    for name, model in MODELS.items():
        register_model(name, model)
    yield sqlite_store
    for name in MODELS:
        forget_model(name)


def stations(store, n=6, name="stations"):
    save_dataset(
        name,
        [{"id": f"f{i}", "input": {"image_paths": [f"{i}.jpg"]}, "expected_output": TRUTH} for i in range(n)],
        store=store,
    )


def form_of(store, *models, **more):
    configs = [{"model": m, "temperature": 0.0, "name_suffix": m} for m in models or ("quick",)]
    return ExperimentForm(store=store, model_configs=configs, dataset_name=more.pop("dataset_name", "stations"), **more)


async def until(true, seconds=60.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        await asyncio.sleep(0.02)


def all_widgets(widget):
    yield widget
    for child in getattr(widget, "children", ()):
        yield from all_widgets(child)


def html_of(form):
    return "\n".join(str(x.value) for x in all_widgets(form.widget) if isinstance(x, w.HTML))


# -- controls


@pytest.mark.parametrize("language", ["en", "th"])
def test_every_control_has_a_label(home, language):
    form = form_of(home, language=language)
    controls = [
        x
        for x in all_widgets(form.widget)
        if isinstance(x, (w.Button, w.ToggleButton, w.Text, w.Dropdown, w.Select, w.Checkbox, w.Combobox))
    ]
    assert len(controls) > 35
    for control in controls:
        assert control.description.strip(), control
        assert isinstance(control, w.Button) or control.tooltip, control.description
    hidden_from_keyboard = [c for c in controls if getattr(c, "tabbable", None) is False]
    assert hidden_from_keyboard == []


def test_a_thai_form_speaks_thai(home):
    form = form_of(home, language="th")
    told = [
        x.description
        for x in all_widgets(form.widget)
        if isinstance(x, (w.Button, w.ToggleButton, w.Text, w.Dropdown, w.Select, w.Checkbox))
    ]
    assert [t for t in told if not re.search("[\u0e00-\u0e7f]", t)] == ["ML app"]
    with pytest.raises(ValueError, match="language='de' must be one of"):
        form_of(home, language="de")


@pytest.mark.parametrize("name", PRESETS)
def test_presets_fill_in_models_and_items(home, name):
    form = form_of(home)
    form.presets[name].click()
    asked = form.arguments()
    assert asked["model_configs"] == [dict(c) for c in PRESETS[name].model_configs]
    assert asked["sample_size"] == PRESETS[name].sample_size
    form.presets["reset"].click()
    assert [c["model"] for c in form.arguments()["model_configs"]] == ["quick"] and form.arguments()[
        "sample_size"
    ] is None


def test_without_keys_a_form_begins_with_what_can_run(home):
    form = ExperimentForm(store=home)
    assert [c["model"] for c in form.rows.value] == list(OFFLINE_MODELS)


def test_rows_are_added_duplicated_and_removed(home):
    form = form_of(home, "quick", "slow")
    form.rows.rows[0].duplicate.click()
    form.rows.rows[0].duplicate.click()
    assert [r.value["name_suffix"] for r in form.rows.rows] == [
        "quick",
        "quick-3",
        "quick-2",
        "slow",
    ] and form.rows.check() == []
    form.rows.rows[1].remove.click()
    form.rows.add.click()
    assert len(form.rows.box.children) == len(form.rows.rows) == 4
    assert [str(p) for _, p in form.rows.check()] == ["Model: choose or type a model"]


def test_datadog_sites_and_settings_reach_the_request(home):
    form = form_of(home)
    part = form.settings
    assert set(DATADOG_SITES) <= set(part.site.options)
    part.backend.value, part.site.value, part.project.value, part.ml_app.value = "datadog", "datadoghq.eu", "p", "app"
    part.agentless.value, part.raise_errors.value, part.jobs.value, part.repeats.value, part.max_cost.value = (
        False,
        False,
        "8",
        "3",
        "0.5",
    )
    asked = form.arguments()
    assert {
        k: asked[k]
        for k in (
            "backend",
            "site",
            "project_name",
            "ml_app",
            "agentless_enabled",
            "raise_errors",
            "jobs",
            "repeats",
            "max_cost_usd",
        )
    } == {
        "backend": "datadog",
        "site": "datadoghq.eu",
        "project_name": "p",
        "ml_app": "app",
        "agentless_enabled": False,
        "raise_errors": False,
        "jobs": 8,
        "repeats": 3,
        "max_cost_usd": 0.5,
    }
    assert "DD_API_KEY is not set" in part.keys.value


def test_keys_are_never_shown(home, monkeypatch):
    monkeypatch.setenv("DD_API_KEY", "planted-4f9d2c81aa")
    form = form_of(home)
    form.rows.rows[0].metadata.value = json.dumps({"note": "planted-4f9d2c81aa"})
    assert (
        form.settings.backend.options[0][0] == "automatic: datadog" and "DD_API_KEY is set" in form.settings.keys.value
    )
    assert "planted" not in html_of(form)


def test_the_request_can_be_copied_and_asks_the_same(home):
    form = form_of(home, "quick", "slow")
    form.data.size.value, form.settings.jobs.value = "3", "5"
    form.rows.rows[0].metadata.value, form.rows.rows[1].settings.value = '{"purpose": "ทดสอบ <b>"}', '{"seed": 4}'
    asked = form.arguments()
    called = {}
    code = as_python(asked, form.place).replace("from vote_experiments import run_model_experiments", "")
    exec(code, {"run_model_experiments": lambda **arguments: called.update(arguments)})
    assert called.pop("store") == form.place.title
    assert (
        {k: asked[k] for k in called} == called
        and called["model_configs"] == asked["model_configs"]
        and called["jobs"] == 5
    )
    text = re.search(r"<pre[^>]*>(.*?)</pre>", form.json.value, re.S)[1]
    assert (
        "<b>" not in text
        and json.loads(text.replace("&#34;", '"').replace("&lt;", "<").replace("&gt;", ">"))["sample_size"] == 3
    )


# -- what is typed wrongly


@pytest.mark.parametrize(
    "field, value, told",
    [
        ("metadata", '{"purpose": ', "Tags (JSON): this is not JSON"),
        ("metadata", "[1]", "Tags (JSON): write a JSON object"),
        ("settings", '{"thinkin_level": "low"}', "thinking_level"),
        ("settings", '{"model": "x"}', "has a field of its own"),
        ("temperature", "7", "Temperature: must be a number from 0.0 to 1.0"),
        ("temperature", "hot", "“hot” is not a number"),
        ("model", "", "choose or type a model"),
        ("settings", '{"top_p": 1e999}', "Further settings"),
        ("suffix", "a\x00b", "Name: must be"),
        ("metadata", "[" * 100_000, "Tags (JSON)"),
    ],
)
def test_what_is_wrong_with_a_row_is_said_in_the_row_and_nothing_runs(home, field, value, told):
    form = form_of(home)
    row = form.rows.rows[0]
    row.controls[field].value = value
    assert told in row.message.value.unescape() and "ve-wrong" in row.controls[field]._dom_classes
    form.run_wait.click()
    assert told in form.said.value.unescape() and "Model 1" in form.said.value and list_jobs(home) == []
    assert told in form.json.value.unescape()
    row.controls[field].value = {"model": "quick", "suffix": "x"}.get(field, "")
    assert row.message.value == "" and "ve-wrong" not in row.controls[field]._dom_classes


def test_two_rows_of_one_name(home):
    form = form_of(home, "quick", "slow")
    form.rows.rows[1].suffix.value = "quick"
    assert "row 1 has the same name, “quick”" in form.rows.rows[1].message.value
    form.run_background.click()
    assert "Model 2: Name: row 1 has the same name" in form.said.value and list_jobs(home) == []


@pytest.mark.parametrize(
    "part, field, value, told",
    [
        ("data", "size", "0", "Items to run: write a whole number of at least 1, not “0”"),
        ("data", "size", "some", "not “some”"),
        ("settings", "jobs", "0", "Items at once"),
        ("settings", "repeats", "1.5", "Ask every item"),
        ("settings", "max_cost", "-1", "a number above 0"),
    ],
)
def test_wrong_numbers(home, part, field, value, told):
    form = form_of(home)
    getattr(getattr(form, part), field).value = value
    assert told in getattr(form, part).problem_line.value
    with pytest.raises(RequestProblem, match=re.escape(told)):
        form.arguments()


@pytest.mark.parametrize("language", ["en", "th"])
def test_the_form_carries_every_field_that_a_page_can(home, language):
    form = form_of(home, language=language)
    assert set(form.arguments()) == set(fields_of("page"))
    words = Words("form", language)
    for name, control in form.settings.more.controls.items():
        assert control.description == words(f"option_{name}") and control.tooltip == words(f"option_{name}_tip")


@pytest.mark.parametrize(
    "name, value, said",
    [
        ("timeout_s", "-1", "Seconds for one item: write a number above 0, not “-1”"),
        ("sample_seed", "many", "Seed of the sample: write a whole number of at least 0, not “many”"),
        ("weights", "judge", "write it as name=number"),
        ("evaluators", "balot_accuracy_score", "unknown evaluator 'balot_accuracy_score'"),
    ],
)
def test_a_wrong_option_is_explained_in_place_and_nothing_runs(home, name, value, said):
    form = form_of(home)
    form.settings.more.controls[name].value = value
    assert said in html.unescape(form.settings.more.problem_line.value)
    form.run_wait.click()
    assert said in html.unescape(form.said.value) and list_jobs(home) == []


def test_an_option_is_followed_from_the_panel_to_the_store(home):
    form = form_of(home)
    for name, value in {"holdout": "f0, f5", "timeout_s": "30", "weights": "ballot_accuracy_score=0.5"}.items():
        form.settings.more.controls[name].value = value

    async def pressed():
        form.run_wait.click()
        await form.settled()

    asyncio.run(pressed())
    (group,) = list_groups(home)
    stored = get_group(home, group["id"])["request"]
    assert (stored["holdout"], stored["timeout_s"]) == (["f0", "f5"], 30)
    assert stored["weights"] == {"ballot_accuracy_score": 0.5}
    assert form.result["experiments"][0]["total_records"] == 4
    form.reset()
    assert form.arguments()["holdout"] is None
    form.settings.set(stored)
    assert form.arguments()["holdout"] == ["f0", "f5"]


def test_no_model_and_no_dataset(tmp_path, monkeypatch):
    monkeypatch.delenv("VOTE_EXPERIMENTS_STORE", raising=False)
    store = Store(tmp_path / "empty.db")
    form = ExperimentForm(store=store, model_configs=[])
    assert (
        "ve-hidden" not in form.data.none._dom_classes and "Draw ten practice form sets" == form.data.draw.description
    )
    form.run_wait.click()
    assert "choose a dataset" in form.said.value and "There is no model" in form.said.value
    store.close()


def test_a_dataset_that_is_gone_is_told_with_what_there_is(home):
    stations(home, 2, "stations-2")

    async def go():
        form = form_of(home)
        delete_dataset("stations", store=home)
        form.run_wait.click()
        form.estimate.click()
        await form.settled()
        assert (
            "DatasetNotFoundError" in form.said.value
            and "stations-2" in form.said.value
            and "import one first" in form.said.value
        )
        assert "DatasetNotFoundError" in form.estimated.value and not form.run_wait.disabled
        form.data.refresh.click()
        assert form.data.value["dataset_name"] == "stations-2"

    asyncio.run(go())


def test_an_unknown_model_is_said_in_its_row_and_refused(home):
    async def go():
        form = form_of(home)
        form.rows.rows[0].model.value = "ocr-fusde"
        await form.settled()
        assert "Cannot run here: unknown model" in form.rows.rows[0].note.value
        form.run_wait.click()
        await form.settled()
        assert "ValueError" in form.said.value and "unknown model" in form.said.value and list_jobs(home) == []

    asyncio.run(go())


# -- running


def test_a_run_that_is_waited_for(home):
    seen_at_work = threading.Event()

    def waits(images, config):
        seen_at_work.wait(60)
        return {"reports": [TRUTH]}

    register_model("slow", waits)

    async def go():
        form = form_of(home, "slow", "quick")
        form.run_wait.click()
        assert "Starting" in form.said.value and form.run_wait.disabled, (
            "a click is answered before anything else happens"
        )
        await until(lambda: 'aria-valuenow="' in form.progress.value and form.followed is not None)
        assert not form.stop.disabled
        seen_at_work.set()
        await form.settled()
        return form

    form = asyncio.run(go())
    assert [e["total_records"] for e in form.result["experiments"]] == [6, 6] and "Finished" in form.said.value
    assert form.progress.value.count('aria-valuenow="100"') == 2 and "6 of 6 items" in form.progress.value
    assert form.run_wait.disabled is False and form.stop.disabled
    for told in (
        "Overall accuracy",
        "95 % intervals",
        "Download JSON",
        "Download CSV",
        "data:image/svg+xml",
        "<details>",
    ):
        assert told in form.results.value
    assert form.past.options[0][1] == form.result["group_id"]


def test_a_failing_runner_is_shown_with_type_message_and_hint(home):
    async def go():
        form = form_of(home, "torn")
        form.settings.raise_errors.value = True
        form.run_wait.click()
        await form.settled()
        return form

    form = asyncio.run(go())
    assert (
        "ItemFailedError" in form.said.value and "the page is torn" in form.said.value and "Turn off" in form.said.value
    )
    assert "<script" not in html_of(form) and "<img src=x" not in html_of(form)


def test_failures_are_counted_and_grouped_when_the_run_goes_on(home):
    async def go():
        form = form_of(home, "half", "torn", "quick")
        form.settings.raise_errors.value = False
        form.run_wait.click()
        await form.settled()
        return form

    form = asyncio.run(go())
    assert "some experiments failed" in form.said.value and "What failed" in form.results.value
    assert "4 of 6" in form.results.value and "✕ failed" in form.results.value and "2 failed" in form.progress.value
    assert "<script" not in html_of(form) and "<img src=x" not in html_of(form)


def test_answers_and_names_that_are_html_stay_text(home):
    stations(home, 2, f"data {SCRIPT}")

    async def go():
        form = form_of(home, "hostile", dataset_name=f"data {SCRIPT}")
        form.rows.rows[0].suffix.value = f"n {SCRIPT}"
        form.rows.rows[0].metadata.value = json.dumps({"tag": SCRIPT})
        form.run_wait.click()
        await form.settled()
        form.items.click()
        await form.settled()
        return form

    form = asyncio.run(go())
    page = html_of(form)
    assert form.result["experiments"][0]["total_records"] == 2
    assert "<script" not in page and "<img src=x" not in page and "&lt;script&gt;" in page
    assert "download=" in form.items_link.value


def test_a_page_that_was_deleted_says_so_and_the_others_are_shown(home, tmp_path):
    for name in ("a.png", "b.png"):
        Image.new("L", (60, 80), 250).save(tmp_path / name)
    save_dataset(
        "pages",
        [{"id": "one <b>", "input": {"image_paths": ["a.png", "b.png"]}}, {"id": "two", "input": {"text": "none"}}],
        root=tmp_path,
        store=home,
    )
    (tmp_path / "b.png").unlink()

    async def go():
        form = form_of(home, dataset_name="pages")
        form.data.fold.children[0].value = True
        await form.settled()
        assert form.data.pages.value.count("<img") == 1 and "Page 2 cannot be shown" in form.data.pages.value
        assert (
            "one &lt;b&gt;" in form.data.where.value
            and "Item 1 of 2" in form.data.where.value
            and form.data.before.disabled
        )
        form.data.after.click()
        await form.settled()
        assert "no page images" in form.data.pages.value and form.data.after.disabled
        delete_dataset("pages", store=home)
        form.data.before.click()
        await form.settled()
        assert "DatasetNotFoundError" in form.data.pages.value

    asyncio.run(go())


def test_an_estimate_before_and_after_a_change(home):
    async def go():
        form = form_of(home, "quick")
        form.data.size.value = "4"
        form.estimate.click()
        await form.settled()
        assert "4 calls on 4 items" in form.estimated.value
        form.data.size.value = "5"
        assert "changed since" in form.estimated.value

    asyncio.run(go())


def test_a_run_is_stopped_and_what_was_read_is_kept(home):
    stations(home, 400, "many")

    async def go():
        form = form_of(home, "slow", dataset_name="many")
        form.run_wait.click()
        await until(lambda: form.followed is not None and form.followed.progress.get("items_done", 0) > 0)
        form.stop.click()
        await form.settled()
        return form

    form = asyncio.run(go())
    assert form.followed.state == "cancelled" and "Interrupted" in form.said.value and not form.run_wait.disabled
    kept = sum(status_counts(home, list_experiments(home)[0]["id"]).values())
    assert 0 < kept < 400


def test_a_form_opened_later_follows_a_run_of_another_process_and_stops_it(home, tmp_path):
    stations(home, 2000, "many")
    program = textwrap.dedent(f"""
        import asyncio
        from vote_experiments.server.job_runner import run_own_job
        from vote_experiments.models.registry import register_model
        async def reads(images, config):
            await asyncio.sleep(0.02)
            return {{"reports": [{TRUTH!r}]}}
        register_model("far", reads)
        job = run_own_job({{"dataset_name": "many", "model_configs": [{{"model": "far"}}]}}, {str(home.path)!r})
        print(job.status)
    """)
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    try:

        async def go():
            await until(lambda: list_jobs(home, "running"))
            form = form_of(home)
            await until(lambda: form.followed is not None and form.followed.progress.get("items_done", 0) > 0)
            first = form.followed.progress["items_done"]
            await until(lambda: form.followed.progress["items_done"] > first)
            assert (
                "which was started elsewhere" in form.said.value
                and not form.stop.disabled
                and not form.run_wait.disabled
            )
            form.stop.click()
            await form.settled()
            return form

        form = asyncio.run(go())
        assert process.communicate(timeout=60)[0].strip() == "cancelled" and form.followed.state == "cancelled"
        assert form.result["is_partial"] and 0 < form.result["experiments"][0]["total_records"] < 2000
    finally:
        process.kill()


def test_a_run_that_is_not_followed_any_more_is_not_told(home):
    "its last look is still under way when someone chooses another one"
    jobs = [submit_job({"dataset_name": "stations", "model_configs": [{"model": "quick"}]}, home) for _ in range(2)]
    cancel_job(jobs[0].id, home)

    async def go():
        form, told = form_of(home), []
        await until(lambda: form.followed is not None)
        form.said.observe(lambda change: told.append(str(change["new"])), "value")
        form.follow_run(jobs[0].id)
        await asyncio.sleep(0)
        form.follow_run(jobs[1].id)
        for _ in range(2):  # looks at the second one, after the last at the first
            seen = form.followed
            await until(lambda seen=seen: form.followed is not seen)
        assert (
            form.followed.id == jobs[1].id
            and not any("Interrupted" in text for text in told)
            and not form.stop.disabled
        )
        cancel_job(jobs[1].id, home)
        await form.settled()
        assert "Interrupted" in form.said.value

    asyncio.run(go())


def test_a_background_run_belongs_to_a_process_of_its_own(home, tmp_path):
    "it is finished although the form, and anyone who made it, is not looked at any more"
    Image.new("L", (400, 560), 255).save(tmp_path / "blank.png")
    save_dataset(
        "blank",
        [{"id": "b", "input": {"image_paths": ["blank.png"]}, "expected_output": TRUTH}],
        root=tmp_path,
        store=home,
    )

    async def go():
        form = form_of(home, "ocr-digits", dataset_name="blank")
        form.settings.raise_errors.value = False
        form.run_background.click()
        await until(lambda: "background" in form.said.value)
        return list_jobs(home)[0].id

    job = wait_for_job(asyncio.run(go()), home, 90)
    assert job.has_ended and job.owner.split(":")[1] == str(local_runs._workers[-1].pid) != str(os.getpid())
    assert job.progress["items_done"] == 1
    local_runs._workers[-1].wait(30)


def test_a_job_whose_process_died_is_offered_again(home):
    job = submit_job({"dataset_name": "stations", "model_configs": [{"model": "quick"}]}, home, owner="nowhere:1:gone")
    with home.write() as c:
        c.exec_driver_sql("UPDATE jobs SET heartbeat = 0")

    async def go():
        form = form_of(home)
        await until(lambda: "process of this run is gone" in form.said.value)
        assert "ve-hidden" not in form.take_up._dom_classes
        cancel_job(job.id, home)
        await form.settled()
        assert get_job(job.id, home).status == "cancelled" and "ve-hidden" in form.take_up._dom_classes

    asyncio.run(go())


def test_earlier_runs_are_shown_again_and_their_settings_used(home):
    async def go():
        form = form_of(home, "quick", "slow")
        form.settings.jobs.value, form.data.size.value = "3", "5"
        form.show_past.click()
        assert "Choose a run first" in form.past_note.value
        form.run_wait.click()
        await form.settled()
        other = ExperimentForm("th", home, model_configs=[])
        await other.settled()
        other.past.value = other.past.options[0][1]
        other.show_past.click(), other.use_past.click()
        await other.settled()
        assert (
            [c["model"] for c in other.rows.value] == ["quick", "slow"]
            and other.settings.jobs.value == "3"
            and other.data.size.value == "5"
        )
        assert "ความถูกต้องโดยรวม" in other.results.value and "ถึง" in other.results.value
        other.clear.click()
        assert other.result is None and "Overall" not in other.results.value and len(list_groups(home)) == 1

    asyncio.run(go())


@pytest.mark.parametrize(("version", "used"), [(1, 1), (2, None)])
def test_the_settings_of_a_run_over_an_older_version_name_it(home, version, used):
    stations(home, 7)
    run_model_experiments(
        dataset_name="stations",
        dataset_version=version,
        model_configs=[{"model": "quick"}],
        store=home,
        show_comparison=False,
    )

    async def go():
        form = form_of(home, dataset_name=None)
        await form.settled()
        form.past.value = form.past.options[0][1]
        form.use_past.click()
        await form.settled()
        assert (form.arguments()["dataset_name"], form.arguments()["dataset_version"]) == ("stations", used)

    asyncio.run(go())


def test_without_a_loop_everything_happens_in_threads(home):
    form = form_of(home)
    form.run_wait.click()
    asyncio.run(form.settled())
    assert form.result["experiments"][0]["total_records"] == 6


# -- a server instead of this kernel


def test_a_server_that_is_down_is_told_with_its_address(home):
    async def go():
        form = ExperimentForm(
            api_base_url="http://127.0.0.1:9",
            api_key="k" * 20,
            model_configs=[{"model": "quick"}],
            dataset_name="stations",
        )
        await form.settled()
        assert (
            "ApiError" in form.said.value
            and "http://127.0.0.1:9" in form.said.value
            and "vote-experiments serve" in form.said.value
        )
        form.run_wait.click()
        await form.settled()
        assert "cannot be reached" in form.said.value and not form.run_wait.disabled
        form.estimate.click()
        await form.settled()
        assert "does not estimate" in form.estimated.value
        assert "ExperimentsClient" in form.python.value

    asyncio.run(go())


def test_an_address_that_is_none_is_refused(home):
    with pytest.raises(ValueError, match="must begin with http"):
        ServerRuns("localhost:8000")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    from test_server_api import running

    with running(tmp_path_factory.mktemp("served"), "rate_per_minute=60000", "rate_burst=5000") as found:
        yield found


def test_a_form_drives_a_server(home, server):
    from test_server_api import KEY

    async def go():
        form = ExperimentForm(
            api_base_url=server.url,
            api_key=KEY,
            dataset_name="stations",
            model_configs=[{"model": "slow", "temperature": 0.0}, {"model": "quick", "temperature": 0.0}],
        )
        assert ("stations (6 items)", "stations") in form.data.name.options and form.data.name.value == "stations"
        form.run_wait.click()
        await until(lambda: "aria-valuenow" in form.progress.value)
        await form.settled()
        assert [e["total_records"] for e in form.result["experiments"]] == [
            6,
            6,
        ] and "Overall accuracy" in form.results.value
        assert (
            form.result["experiments"][0]["metrics_ci"]["success_rate"][1] == 1.0
            and "data:image/svg+xml" in form.results.value
        )
        assert f'href="{server.url}/api/v1/experiments/runs/' in form.results.value
        assert form.past.options[0][1] == form.result["group_id"]
        form.data.choose("staitons")
        form.run_background.click()
        await form.settled()
        assert "HTTP 404" in form.said.value and "stations" in form.said.value
        form.past.value = form.past.options[0][1]
        form.show_past.click(), form.use_past.click()
        await form.settled()
        assert form.data.value["dataset_name"] == "stations" and [c["model"] for c in form.rows.value] == [
            "slow",
            "quick",
        ]
        form.data.choose("long")
        form.rows.set([{"model": "slow", "name_suffix": "to-stop"}])
        form.settings.jobs.value, form.settings.repeats.value = "1", "5"  # 10 s
        form.run_background.click()
        await until(lambda: form.followed is not None and form.followed.state == "running" and not form.stop.disabled)
        form.stop.click()
        await form.settled()
        assert form.followed.state == "cancelled"

    asyncio.run(go())


# -- small print


def test_progress_in_words():
    e = {
        "name": "a",
        "done": 5,
        "total": 10,
        "failed": 1,
        "rate": 0.5,
        "eta_s": 100,
        "cost_usd": 0.0123,
        "finished": False,
    }
    assert progress_words(say, e) == "5 of 10 items · 1 failed · 30.0 items/min · 1m40s to go · $0.012"
    assert progress_words(say, {**e, "finished": True, "elapsed_s": 70}).split(" · ")[3] == "finished in 1m10s"
    assert progress_words(say, {"name": "a", "done": 5, "total": None, "failed": 0}) == "5 · 0 failed"


def test_a_place_says_where_it_is_without_a_password(home):
    assert StoreRuns(home).title == str(home.path) and Path(StoreRuns(home).title).is_absolute()


def test_rows_of_nothing():
    rows = ConfigRows(say)
    assert rows.value == [] and rows.check() == []
