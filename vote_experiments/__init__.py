"""A laboratory for one job: which model reads Thai polling-station reports best, and how sure are we?

Everything a notebook needs is here: `from vote_experiments import run_model_experiments, get_dataset`. A name is
loaded when it is first used (PEP 562), so importing the package costs next to nothing.
"""

import sys
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:  # what type checkers and editors see; a test compares it with the table below
    from .analysis.compare import Comparison, compare
    from .analysis.intervals import compute_ci_df, mean_interval
    from .analysis.plots import plot_comparison
    from .analysis.stakes import seat_flips
    from .analysis.sweep_plots import plot_sweep_heatmap, plot_sweep_metric, plot_sweep_metrics
    from .analysis.sweeps import collate_sweep_evals
    from .datasets.files import (
        Columns, export_dataset, group_folder, import_dataset, import_folder, read_dataset_file, write_dataset_file)
    from .compat.datasets import get_dataset
    from .datasets.dataset import (
        Dataset, DatasetNotFoundError, archive_item, delete_dataset, diff_versions, list_datasets,
        list_versions, save_dataset, upsert_item, validate_items)
    from .datasets.ground_truth import adjudicate, annotate, correct_truth, flag_item, review_queue, value_origins
    from .widgets.dataset_manager import DatasetManager
    from .widgets.record_explorer import RecordExplorer
    from .widgets.experiment_form import ExperimentForm
    from .store.response_cache import clear_responses, list_responses, prune_responses
    from .experiments.result import ExperimentResult, experiment_result
    from .store.results import RunNotFoundError, list_experiments, list_groups
    from .store.database import Store, StoreError, backup_store, check_store, open_store
    from .engine.engine import ItemFailedError, RunInterrupted, RunStoppedError
    from .experiments.ensemble import aensemble, ensemble
    from .experiments.estimate import Estimates, estimate_experiments
    from .experiments.experiment import arescore, arun_experiment, rescore, run_experiment
    from .experiments.extract import Extracted, extract
    from .experiments.comparison import arun_model_experiments, run_model_experiments
    from .engine.processes import process_pool
    from .engine.progress import Progress
    from .platforms.publishing import Publication, publish, pull_dataset, push_dataset
    from .experiments.race import RaceResult, arace, race
    from .engine.resuming import RunBusyError, SettingsChangedError
    from .experiments.sweeps import Step, Workflow, run_sweep, run_workflow
    from .experiments.trend import gate_run, trend
    from .forms.checks import check_report
    from .forms.schema import Report, parse_reports, plain_reports, read_reports, report_schema
    from .forms.synthesis import demo_dataset, form_set, synthesize_dataset
    from .models.extraction import ExtractionError, vote_extraction_task
    from .models.registry import check_configs, forget_model, get_model, list_models, model_available, register_model
    from .models.budget import BudgetExceeded
    from .records import (
        DatasetItem, Evaluation, Extraction, ItemError, ItemResult, Model, Observation,
        RegressionError, Usage, observe)
    from .scoring.evaluators import (
        FURTHER_EVALUATORS, OPTIONAL_EVALUATORS, STANDARD_EVALUATORS, absolute_vote_error, anls_star,
        arithmetic_consistency, ballot_accuracy_score, exact_form_match, field_f1, has_no_errors, invented_rows,
        name_cer, omitted_rows, row_shift, suspect_labels, vote_results_by_name, vote_results_quality,
        voter_statistics_accuracy, words_match_digits)
    from .scoring.judges import (
        JUDGES, LLMJudge, accuracy, coherence, depth, extraction_judge, llm_judge_evaluator, overall)
    from .scoring.summary import (
        STANDARD_SUMMARIES, avg_ballot_accuracy, avg_llm_judge_score, overall_accuracy, success_rate)
    from .traces.traces import (
        StoreSpanExporter, Trace, Traces, create_score, create_trace, export_traces, get_scores, get_trace,
        get_traces, import_traces)
    from .experiments.batch import (
        BatchEvaluationResult, BatchEvaluationResumeToken, EvaluatorInputs, arun_batched_evaluation,
        batch_evaluation_result, run_batched_evaluation)
    from .compat.client import Client
    from .compat.runs import (
        create_dataset, create_dataset_item, create_experiment, create_run, get_experiment_runs)
    from .compat.variants import (
        RunnerContext, ab_test, aevaluate_experiment, compare_experiments, dataset_from_traces,
        evaluate_experiment, export_experiment_results, prompt_variants)

_EXPORTS: dict[str, str] = {  # module: the names it gives to the package
    "analysis.compare": "Comparison compare",
    "analysis.intervals": "compute_ci_df mean_interval",
    "analysis.plots": "plot_comparison",
    "analysis.stakes": "seat_flips",
    "analysis.sweep_plots": "plot_sweep_heatmap plot_sweep_metric plot_sweep_metrics",
    "analysis.sweeps": "collate_sweep_evals",
    "datasets.files": "Columns export_dataset group_folder import_dataset import_folder read_dataset_file "
                          "write_dataset_file",
    "compat.datasets": "get_dataset",
    "datasets.dataset": "Dataset DatasetNotFoundError archive_item delete_dataset diff_versions "
                     "list_datasets list_versions save_dataset upsert_item validate_items",
    "datasets.ground_truth": "adjudicate annotate correct_truth flag_item review_queue value_origins",
    "widgets.dataset_manager": "DatasetManager",
    "widgets.record_explorer": "RecordExplorer",
    "widgets.experiment_form": "ExperimentForm",
    "store.response_cache": "clear_responses list_responses prune_responses",
    "experiments.result": "ExperimentResult experiment_result",
    "store.results": "RunNotFoundError list_experiments list_groups",
    "store.database": "Store StoreError backup_store check_store open_store",
    "engine.engine": "ItemFailedError RunInterrupted RunStoppedError",
    "experiments.ensemble": "aensemble ensemble",
    "experiments.estimate": "Estimates estimate_experiments",
    "experiments.experiment": "arescore arun_experiment rescore run_experiment",
    "experiments.extract": "Extracted extract",
    "experiments.comparison": "arun_model_experiments run_model_experiments",
    "engine.processes": "process_pool",
    "engine.progress": "Progress",
    "platforms.publishing": "Publication publish pull_dataset push_dataset",
    "experiments.race": "RaceResult arace race",
    "engine.resuming": "RunBusyError SettingsChangedError",
    "experiments.sweeps": "Step Workflow run_sweep run_workflow",
    "experiments.trend": "gate_run trend",
    "forms.checks": "check_report",
    "forms.schema": "Report parse_reports plain_reports read_reports report_schema",
    "forms.synthesis": "demo_dataset form_set synthesize_dataset",
    "models.extraction": "ExtractionError vote_extraction_task",
    "models.registry": "check_configs forget_model get_model list_models model_available register_model",
    "models.budget": "BudgetExceeded",
    "records": "DatasetItem Evaluation Extraction ItemError ItemResult Model Observation "
               "RegressionError Usage observe",
    "scoring.evaluators": "FURTHER_EVALUATORS OPTIONAL_EVALUATORS STANDARD_EVALUATORS absolute_vote_error anls_star "
                          "arithmetic_consistency ballot_accuracy_score exact_form_match field_f1 has_no_errors "
                          "invented_rows name_cer omitted_rows row_shift suspect_labels vote_results_by_name "
                          "vote_results_quality voter_statistics_accuracy words_match_digits",
    "scoring.judges": "JUDGES LLMJudge accuracy coherence depth extraction_judge llm_judge_evaluator overall",
    "scoring.summary": "STANDARD_SUMMARIES avg_ballot_accuracy avg_llm_judge_score overall_accuracy success_rate",
    "traces.traces": "StoreSpanExporter Trace Traces create_score create_trace export_traces get_scores "
                   "get_trace get_traces import_traces",
    "experiments.batch": "BatchEvaluationResult BatchEvaluationResumeToken EvaluatorInputs arun_batched_evaluation "
                         "batch_evaluation_result run_batched_evaluation",
    "compat.client": "Client",
    "compat.runs": "create_dataset create_dataset_item create_experiment create_run "
                          "get_experiment_runs",
    "compat.variants": "RunnerContext ab_test aevaluate_experiment compare_experiments dataset_from_traces "
                            "evaluate_experiment export_experiment_results prompt_variants",
}
_MODULE_OF = {name: module for module, names in _EXPORTS.items() for name in names.split()}

__all__ = [  # spelled out, because type checkers of our users go by it
    "__version__", "BatchEvaluationResult", "BatchEvaluationResumeToken", "BudgetExceeded", "Client", "Columns",
    "Comparison", "Dataset", "DatasetItem", "DatasetManager", "DatasetNotFoundError", "Estimates", "Evaluation",
    "EvaluatorInputs", "ExperimentForm", "ExperimentResult", "Extracted", "Extraction", "ExtractionError",
    "FURTHER_EVALUATORS", "ItemError", "ItemFailedError", "ItemResult", "JUDGES", "LLMJudge", "Model",
    "OPTIONAL_EVALUATORS", "Observation", "Progress", "Publication", "RaceResult", "RecordExplorer", "RegressionError",
    "Report", "RunBusyError", "RunInterrupted", "RunNotFoundError", "RunStoppedError", "RunnerContext",
    "STANDARD_EVALUATORS", "STANDARD_SUMMARIES", "SettingsChangedError", "Step", "Store", "StoreError",
    "StoreSpanExporter", "Trace", "Traces", "Usage", "Workflow", "ab_test", "absolute_vote_error", "accuracy",
    "adjudicate", "aensemble", "aevaluate_experiment", "anls_star", "annotate", "arace", "archive_item", "arescore",
    "arithmetic_consistency", "arun_batched_evaluation", "arun_experiment", "arun_model_experiments",
    "avg_ballot_accuracy", "avg_llm_judge_score", "backup_store", "ballot_accuracy_score", "batch_evaluation_result",
    "check_configs", "check_report", "check_store", "clear_responses", "coherence", "collate_sweep_evals", "compare",
    "compare_experiments", "compute_ci_df", "correct_truth", "create_dataset", "create_dataset_item",
    "create_experiment", "create_run", "create_score", "create_trace", "dataset_from_traces", "delete_dataset",
    "demo_dataset", "depth", "diff_versions", "ensemble", "estimate_experiments", "evaluate_experiment",
    "exact_form_match", "experiment_result", "export_dataset", "export_experiment_results", "export_traces", "extract",
    "extraction_judge", "field_f1", "flag_item", "forget_model", "form_set", "gate_run", "get_dataset",
    "get_experiment_runs", "get_model", "get_scores", "get_trace", "get_traces", "group_folder", "has_no_errors",
    "import_dataset", "import_folder", "import_traces", "invented_rows", "list_datasets", "list_experiments",
    "list_groups", "list_models", "list_responses", "list_versions", "llm_judge_evaluator", "mean_interval",
    "model_available", "name_cer", "observe", "omitted_rows", "open_store", "overall", "overall_accuracy",
    "parse_reports", "plain_reports", "plot_comparison", "plot_sweep_heatmap", "plot_sweep_metric",
    "plot_sweep_metrics", "process_pool", "prompt_variants", "prune_responses", "publish", "pull_dataset",
    "push_dataset", "race", "read_dataset_file", "read_reports", "register_model", "report_schema", "rescore",
    "review_queue", "row_shift", "run_batched_evaluation", "run_experiment", "run_model_experiments", "run_sweep",
    "run_workflow", "save_dataset", "seat_flips", "success_rate", "suspect_labels", "synthesize_dataset", "trend",
    "upsert_item", "validate_items", "value_origins", "vote_extraction_task", "vote_results_by_name",
    "vote_results_quality", "voter_statistics_accuracy", "words_match_digits", "write_dataset_file",
]


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name)
    if module is None:
        if name.startswith("_"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from vote_experiments.settings import did_you_mean

        raise AttributeError(f"module {__name__!r} has no attribute {name!r}{did_you_mean(name, _MODULE_OF)}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(f"{__name__}.{module}"), name)
    return value


def _card(name: str) -> Any:
    def html(value: Any) -> str:
        from vote_experiments.reports import cards

        return getattr(cards, name)(value)

    return html


def _register_displays(html: Any) -> None:  # an IPython formatter of HTML
    "Items and datasets display as cards, although the records themselves do not depend on reports"
    html.for_type_by_name("vote_experiments.records", "DatasetItem", _card("item_card"))
    html.for_type_by_name("vote_experiments.datasets.dataset", "Dataset", _card("dataset_card"))


def _notebook() -> Any:  # the running IPython shell, or None
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython is not None and hasattr(ipython, "get_ipython") else None


if (_shell := _notebook()) is not None and _shell.display_formatter is not None:
    _register_displays(_shell.display_formatter.formatters["text/html"])


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
