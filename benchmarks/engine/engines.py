"""Every engine that can be measured, by name"""

from dataclasses import dataclass

from benchmarks.engine import ours, peers, reference
from benchmarks.engine.workload import Prepare


@dataclass(frozen=True)
class Engine:
    name: str
    prepare: Prepare
    keeps: str  # what is left of a run when its process is gone
    package: str | None = None  # whose version is reported
    at_most: int = 10**9  # items; a slow engine gets fewer, because its rate does not depend on it


ENGINES = {
    e.name: e
    for e in (
        Engine("reference", reference.reference, "SQLite, a row an item"),
        Engine("pool", reference.pool, "SQLite, a row an item"),
        Engine("us", ours.us, "SQLite: results, scores, traces; resumable", "vote-experiments"),
        Engine("us-sync", ours.us_sync, "SQLite: results, scores, traces; resumable", "vote-experiments"),
        Engine("interactiveai-untraced", peers.interactiveai_untraced, "nothing", "interactiveai"),
        Engine("langfuse-untraced", peers.langfuse_untraced, "nothing", "langfuse"),
        Engine("pydantic-evals", peers.pydantic_evals, "nothing", "pydantic-evals"),
        Engine("braintrust", peers.braintrust, "nothing", "braintrust"),
        Engine("langsmith", peers.langsmith, "nothing", "langsmith"),
        Engine("ddtrace", peers.ddtrace, "sends to a platform", "ddtrace"),
        Engine("interactiveai", peers.interactiveai, "sends to a platform", "interactiveai", 10_000),
        Engine("langfuse", peers.langfuse, "sends to a platform", "langfuse", 10_000),
        Engine("promptfoo", peers.promptfoo, "SQLite", at_most=1_000),
        Engine("inspect-ai", peers.inspect_ai, "a log file", "inspect-ai", 2_000),
        Engine("phoenix", peers.phoenix, "its server's SQLite", "arize-phoenix", 500),
        Engine("mlflow", peers.mlflow, "SQLite", "mlflow", 500),
    )
}
