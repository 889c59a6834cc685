# The public face: every name that `from vote_experiments import …` offers. `__init__.py` loads a name when it is first used;
# type checkers and editors read this file.

from . import analysis as analysis
from . import compat as compat
from . import errors as errors
from . import evaluators as evaluators
from . import judges as judges
from . import outcome as outcome
from . import plots as plots
from . import traces as traces
from . import truth as truth
from . import widgets as widgets
from .analysis.comparison import compare as compare
from .compat.client import Client as Client
from .compat.datasets import get_dataset as get_dataset
from .datasets.dataset import Dataset as Dataset
from .datasets.dataset import list_datasets as list_datasets
from .datasets.files import import_dataset as import_dataset
from .datasets.folders import import_folder as import_folder
from .datasets.joining import join_truth as join_truth
from .experiments.batch import EvaluatorInputs as EvaluatorInputs
from .experiments.batch import run_batched_evaluation as run_batched_evaluation
from .experiments.comparison import run_model_experiments as run_model_experiments
from .experiments.ensemble import ensemble as ensemble
from .experiments.estimate import estimate as estimate
from .experiments.rescoring import rescore as rescore
from .experiments.experiment import run_experiment as run_experiment
from .experiments.extract import extract as extract
from .experiments.race import race as race
from .experiments.result import ExperimentResult as ExperimentResult
from .experiments.result import experiment_result as experiment_result
from .experiments.sweeps import run_sweep as run_sweep
from .experiments.trend import gate_run as gate_run
from .forms.schema import parse_reports as parse_reports
from .forms.schema import read_reports as read_reports
from .synthesis.drawn import synthesize_dataset as synthesize_dataset
from .models.registry import list_models as list_models
from .models.registry import register_model as register_model
from .outcome.check import OutcomeCheck as OutcomeCheck
from .outcome.check import start_outcome_check as start_outcome_check
from .platforms.publishing import publish as publish
from .records import DatasetItem as DatasetItem
from .records import Evaluation as Evaluation
from .records import ItemResult as ItemResult
from .records import RegressionError as RegressionError
from .records import VoteExperimentsError as VoteExperimentsError
from .store.runs import list_experiments as list_experiments

__version__: str
