"""The same scenes against the real platforms: only with their keys and VOTE_EXPERIMENTS_LIVE=1

They create a dataset and an experiment of three items each, under names that begin with `vote-experiments-live-`.
"""

import os
import time

import pytest

from vote_experiments.datasets.saving import save_dataset
from vote_experiments.store.database import Store
from vote_experiments.experiments.experiment import run_experiment
from vote_experiments.platforms.publishing import publish, pull_dataset, push_dataset
from vote_experiments.records import Observation, Usage, observe

NEEDS = {
    "datadog": ("DD_API_KEY", "DD_APP_KEY"),
    "langfuse": ("LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY"),
    "interactiveai": ("INTERACTIVEAI_PUBLIC_KEY", "INTERACTIVEAI_SECRET_KEY"),
}


@pytest.mark.slow
@pytest.mark.parametrize("platform", NEEDS)
def test_a_dataset_and_a_run_arrive(platform, sqlite_store, tmp_path):
    missing = [k for k in ("VOTE_EXPERIMENTS_LIVE", *NEEDS[platform]) if not os.environ.get(k)]
    if missing:
        pytest.skip(f"set {', '.join(missing)} to run this against {platform} itself")
    name = f"vote-experiments-live-{int(time.time())}"
    data = save_dataset(
        name, [{"id": f"r{i}", "input": {"i": i}, "expected_output": {"i": i}} for i in range(3)], store=sqlite_store
    )
    push_dataset(data, platform, store=sqlite_store)
    assert {i.id for i in pull_dataset(platform, name, store=Store(tmp_path / "other.db"))} == {"r0", "r1", "r2"}

    def task(input_data):
        observe(
            Observation(
                "call",
                "GENERATION",
                time.time() - 1,
                time.time(),
                "question",
                "answer",
                model="gemini-2.5-flash",
                usage=Usage(10, 5),
            )
        )
        return input_data

    def right(output, expected_output):
        return output == expected_output

    done = run_experiment(name=name, data=data, task=task, evaluators=[right], store=sqlite_store, backend=platform)
    (report,) = publish(done.experiment_id, store=sqlite_store, patience_s=180)
    assert report.complete, str(report)
