"""
The other libraries, each called as its own documentation does it

Every adapter runs without a network. A library that keeps results itself writes into the folder it is given; one that
sends them to a platform talks to `loopback`, or sends nothing where it has such a setting. The fastest documented
way is taken: async tasks and evaluators where they are known, the concurrency of the scenario, no progress display.
"""

import asyncio
import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.engine.loopback import serving
from benchmarks.engine.workload import Done, Run, Work, is_exact, nearness


@contextmanager
def inspect_ai(folder: Path) -> Iterator[Run]:
    "Keeps an .eval log"
    from inspect_ai import Task, eval
    from inspect_ai.dataset import MemoryDataset, Sample
    from inspect_ai.scorer import Score, mean, scorer
    from inspect_ai.solver import solver

    def run(work: Work) -> Done:
        @solver
        def answer():
            async def solve(state: Any, generate: Any) -> Any:
                state.metadata["output"] = await work.answer(state.metadata["input"])
                return state

            return solve

        @scorer(metrics=[mean()])
        def exact():
            async def score(state: Any, target: Any) -> Any:
                return Score(value=float(is_exact(state.metadata["output"], state.metadata["expected"])))

            return score

        @scorer(metrics=[mean()])
        def near():
            async def score(state: Any, target: Any) -> Any:
                return Score(value=nearness(state.metadata["output"], state.metadata["expected"]))

            return score

        samples = [
            Sample(input=str(i), id=i, metadata={"input": item["input"], "expected": item["expected_output"]})
            for i, item in enumerate(work.items())
        ]
        (log,) = eval(
            Task(dataset=MemoryDataset(samples), solver=answer(), scorer=[exact(), near()]),
            model="mockllm/model",
            max_samples=work.jobs,
            log_dir=str(folder),
            display="none",
        )
        return Done(min(s.scored_samples or 0 for s in log.results.scores) if log.results else 0)

    yield run


@contextmanager
def mlflow(folder: Path) -> Iterator[Run]:
    """Keeps runs and traces in SQLite. It takes no async predict_fn, so the task naps in one of its threads, of which
    there are its default of 10; its pool of connections is widened, because with its default of 15 results are lost."""
    os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SQLALCHEMYSTORE_POOL_SIZE": "100"}
    import mlflow
    from mlflow.genai.scorers import scorer

    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    experiment = mlflow.create_experiment("benchmark", artifact_location=(folder / "artifacts").as_uri())
    mlflow.set_experiment(experiment_id=experiment)

    @scorer
    def exact(outputs: Any, expectations: Any) -> bool:
        return is_exact(outputs, expectations["expected"])

    @scorer
    def near(outputs: Any, expectations: Any) -> float:
        return nearness(outputs, expectations["expected"])

    def run(work: Work) -> Done:
        data = [
            {"inputs": {"input": item["input"]}, "expectations": {"expected": item["expected_output"]}}
            for item in work.items()
        ]
        found = mlflow.genai.evaluate(
            data=data, predict_fn=lambda input: work.answer_sync(input), scorers=[exact, near]
        )
        frame = found.result_df
        return Done(int(frame[["exact/value", "near/value"]].notna().all(axis=1).sum()))

    yield run


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextmanager
def phoenix(folder: Path) -> Iterator[Run]:
    "Keeps everything in its server's SQLite; the server is a process of its own, only the client is measured"
    from phoenix.client import AsyncClient

    port = _free_port()
    own = {
        "PHOENIX_WORKING_DIR": str(folder),
        "PHOENIX_PORT": str(port),
        "PHOENIX_GRPC_PORT": str(_free_port()),
        "PHOENIX_HOST": "127.0.0.1",
        "PHOENIX_TELEMETRY_ENABLED": "false",
    }
    with subprocess.Popen(
        [sys.executable, "-m", "phoenix.server.main", "serve"],
        env=os.environ | own,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as server:
        url = f"http://127.0.0.1:{port}"
        _wait_for(f"{url}/healthz", server)

        async def go(work: Work) -> Done:
            client, items = AsyncClient(base_url=url), work.items()

            async def task(input: Any) -> Any:
                return await work.answer(input)

            async def exact(output: Any, expected: Any) -> bool:
                return is_exact(output, expected)

            async def near(output: Any, expected: Any) -> float:
                return nearness(output, expected)

            dataset = await client.datasets.create_dataset(
                name=f"stations-{time.time_ns()}",
                inputs=[i["input"] for i in items],
                outputs=[i["expected_output"] for i in items],
                timeout=600,
            )
            found = await client.experiments.run_experiment(
                dataset=dataset,
                task=task,
                evaluators=[exact, near],
                concurrency=work.jobs,
                print_summary=False,
                timeout=600,
            )
            return Done(min(len(found["task_runs"]), len(found["evaluation_runs"]) // 2))

        try:
            yield lambda work: asyncio.run(go(work))
        finally:
            server.terminate()


def _wait_for(url: str, server: subprocess.Popen, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and server.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return
        except OSError:
            time.sleep(0.3)
    raise RuntimeError(f"the server of {url} did not come up within {seconds:.0f} s")


def _run_experiment(client: Any, evaluation: type, work: Work) -> int:
    "The call that Langfuse and InteractiveAI share; how many items have both scores"

    async def task(*, item: Any, **_: Any) -> Any:
        return await work.answer(item["input"])

    async def exact(*, output: Any, expected_output: Any, **_: Any) -> Any:
        return evaluation(name="exact", value=is_exact(output, expected_output))

    async def near(*, output: Any, expected_output: Any, **_: Any) -> Any:
        return evaluation(name="near", value=nearness(output, expected_output))

    found = client.run_experiment(
        name="benchmark", data=work.items(), task=task, evaluators=[exact, near], max_concurrency=work.jobs
    )
    client.flush()
    return sum(len(r.evaluations) == 2 for r in found.item_results)


def _langfuse(tracing: bool):
    @contextmanager
    def prepare(folder: Path) -> Iterator[Run]:
        from langfuse import Evaluation, Langfuse

        with serving() as server:
            client = Langfuse(public_key="pk", secret_key="sk", base_url=server.url, tracing_enabled=tracing)
            yield lambda work: Done(_run_experiment(client, Evaluation, work), server.bytes_sent())

    return prepare


def _interactiveai(tracing: bool):
    @contextmanager
    def prepare(folder: Path) -> Iterator[Run]:
        from interactiveai import Evaluation, Interactive

        with serving() as server:
            client = Interactive(public_key="pk", secret_key="sk", base_url=server.url, tracing_enabled=tracing)
            yield lambda work: Done(_run_experiment(client, Evaluation, work), server.bytes_sent())

    return prepare


# with tracing the clients send a span an item and every score; without, they compute and keep nothing
langfuse, langfuse_untraced = _langfuse(True), _langfuse(False)
interactiveai, interactiveai_untraced = _interactiveai(True), _interactiveai(False)


@contextmanager
def pydantic_evals(folder: Path) -> Iterator[Run]:
    "Keeps the report in memory"
    from pydantic_evals import Case, Dataset
    from pydantic_evals.evaluators import Evaluator

    class Exact(Evaluator):
        async def evaluate(self, ctx: Any) -> bool:
            return is_exact(ctx.output, ctx.expected_output)

    class Near(Evaluator):
        async def evaluate(self, ctx: Any) -> float:
            return nearness(ctx.output, ctx.expected_output)

    def run(work: Work) -> Done:
        cases = [
            Case(name=str(i), inputs=item["input"], expected_output=item["expected_output"])
            for i, item in enumerate(work.items())
        ]
        dataset = Dataset(name="stations", cases=cases, evaluators=[Exact(), Near()])
        report = asyncio.run(dataset.evaluate(work.answer, max_concurrency=work.jobs, progress=False))
        return Done(sum(len(c.assertions) + len(c.scores) == 2 for c in report.cases))

    yield run


@contextmanager
def braintrust(folder: Path) -> Iterator[Run]:
    "Set to send nothing: keeps the results in memory"
    from braintrust import EvalAsync

    async def exact(input: Any, output: Any, expected: Any) -> float:
        return float(is_exact(output, expected))

    async def near(input: Any, output: Any, expected: Any) -> float:
        return nearness(output, expected)

    def run(work: Work) -> Done:
        data = [{"input": item["input"], "expected": item["expected_output"]} for item in work.items()]
        found = asyncio.run(
            EvalAsync(
                "benchmark",
                data=data,
                task=work.answer,
                scores=[exact, near],
                max_concurrency=work.jobs,
                no_send_logs=True,
            )
        )
        return Done(sum(len(r.scores) == 2 for r in found.results))

    yield run


@contextmanager
def langsmith(folder: Path) -> Iterator[Run]:
    "Set to upload nothing: keeps the results in memory"
    with serving() as server:
        os.environ |= {"LANGSMITH_TRACING": "false", "LANGSMITH_API_KEY": "none", "LANGSMITH_ENDPOINT": server.url}
        import uuid

        from langsmith import Client, aevaluate
        from langsmith.schemas import Example

        client, dataset = Client(), uuid.uuid4()

        async def exact(outputs: dict, reference_outputs: dict) -> bool:
            return is_exact(outputs, reference_outputs)

        async def near(outputs: dict, reference_outputs: dict) -> float:
            return nearness(outputs, reference_outputs)

        async def go(work: Work) -> Done:
            async def task(inputs: dict) -> dict:
                return await work.answer(inputs)

            examples = [
                Example(id=uuid.uuid4(), dataset_id=dataset, inputs=i["input"], outputs=i["expected_output"])
                for i in work.items()
            ]
            found = await aevaluate(
                task,
                data=examples,
                evaluators=[exact, near],
                max_concurrency=work.jobs,
                upload_results=False,
                client=client,
            )
            n = sum([len(r["evaluation_results"]["results"]) == 2 async for r in found])
            return Done(n, server.bytes_sent())

        yield lambda work: asyncio.run(go(work))


@contextmanager
def ddtrace(folder: Path) -> Iterator[Run]:
    "Sends to its platform, here to the loopback server"
    with serving() as server:
        os.environ |= {
            "DD_LLMOBS_OVERRIDE_ORIGIN": server.url,
            "DD_API_KEY": "x",
            "DD_APP_KEY": "y",
            "DD_SITE": "datadoghq.com",
            "DD_LLMOBS_AGENTLESS_ENABLED": "1",
            "DD_APM_TRACING_ENABLED": "false",
            "DD_TRACE_ENABLED": "false",
            "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "0",
            "DD_REMOTE_CONFIGURATION_ENABLED": "0",
        }
        from ddtrace.llmobs import LLMObs

        LLMObs.enable(ml_app="benchmark", project_name="benchmark", agentless_enabled=True)
        logging.getLogger("ddtrace").setLevel(logging.ERROR)

        async def exact(input_data: Any, output_data: Any, expected_output: Any) -> bool:
            return is_exact(output_data, expected_output)

        async def near(input_data: Any, output_data: Any, expected_output: Any) -> float:
            return nearness(output_data, expected_output)

        def run(work: Work) -> Done:
            async def task(input_data: Any, config: Any) -> Any:
                return await work.answer(input_data)

            records = [{"input_data": i["input"], "expected_output": i["expected_output"]} for i in work.items()]
            dataset = LLMObs.create_dataset(f"stations-{work.n}", records=records, deduplicate=False)
            experiment = LLMObs.async_experiment("benchmark", task, dataset, [exact, near])
            found = asyncio.run(experiment.run(jobs=work.jobs))
            LLMObs.flush()
            return Done(sum(len(r["evaluations"]) == 2 for r in found["rows"]), server.bytes_sent())

        yield run


_PROMPTFOO_PROVIDER = """
module.exports = class {
  id() { return 'adder'; }
  async callApi(prompt, context) {
    const nap = %d;
    if (nap) await new Promise((wake) => setTimeout(wake, nap));
    return { output: JSON.stringify({ valid: context.vars.votes.split(' ').reduce((sum, v) => sum + Number(v), 0) }) };
  }
};
"""


@contextmanager
def promptfoo(folder: Path) -> Iterator[Run]:
    "A Node program that keeps results in SQLite; starting it is part of what it costs"
    program = os.environ.get("BENCHMARK_PROMPTFOO") or shutil.which("promptfoo")
    if program is None:
        raise ImportError("no promptfoo on the PATH; npm install promptfoo, and --python promptfoo=PATH_TO_IT")
    os.environ |= {
        "PROMPTFOO_CONFIG_DIR": str(folder),
        "PROMPTFOO_DISABLE_TELEMETRY": "1",
        "PROMPTFOO_DISABLE_UPDATE": "1",
        "PROMPTFOO_DISABLE_REMOTE_GENERATION": "true",
    }
    asserts = [
        {"type": "javascript", "value": "output === context.vars.expected", "metric": "exact"},
        {
            "type": "javascript",
            "metric": "near",
            "value": "1 - Math.abs(JSON.parse(output).valid - JSON.parse(context.vars.expected).valid) / 1000",
        },
    ]

    def run(work: Work) -> Done:
        (folder / "adder.cjs").write_text(_PROMPTFOO_PROVIDER % round(work.scenario.nap_s * 1000))
        tests = [
            {
                "vars": {
                    "votes": " ".join(map(str, i["input"]["votes"])),
                    "expected": json.dumps(i["expected_output"], separators=(",", ":")),
                }
            }
            for i in work.items()
        ]
        config = {
            "prompts": ["add {{votes}}"],
            "providers": [f"file://{folder}/adder.cjs"],
            "defaultTest": {"assert": asserts},
            "tests": tests,
        }
        (folder / "config.json").write_text(json.dumps(config))
        subprocess.run(
            [
                program,
                "eval",
                "-c",
                str(folder / "config.json"),
                "-o",
                str(folder / "out.json"),
                "-j",
                str(work.jobs),
                "--no-cache",
                "--no-progress-bar",
                "--no-table",
            ],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd=folder,
        )
        results = json.loads((folder / "out.json").read_text())["results"]["results"]
        (folder / "out.json").unlink()  # only the database counts as kept
        return Done(sum(len(r["namedScores"]) == 2 for r in results))

    yield run
