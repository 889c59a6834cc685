from .dataset_manager import DatasetManager as DatasetManager
from .experiment_form import ExperimentForm as ExperimentForm
from .record_explorer import RecordExplorer as RecordExplorer
