"""A workflow that really trains and evaluates: logistic regression on points drawn for the occasion.

It takes the place that a training service and an evaluation backend have in the guide, with their names for the settings."""

from dataclasses import dataclass, field
from importlib import import_module

import numpy as np

from vote_experiments.workflow import Step, Workflow


def noisy_points(num_samples: int = 100, seed: int = 0) -> dict:
    "Points in the plane, and whether they lie above a line; some labels are wrong"
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(num_samples, 2)) * [3, 1]
    y = (x @ [1.0, -2.0] + rng.normal(0, 1.0, num_samples) > 0.5).astype(int)
    return {"x": x.tolist(), "y": y.tolist()}


@dataclass
class PrepareDataset:
    dataset_loader: str
    loader_kwargs: dict = field(default_factory=dict)


@dataclass
class SubmitTraining:
    model: str
    hyperparameters: dict
    suffix: str = ""
    backend_name: str = "local"


@dataclass
class WaitForTraining:
    pass


@dataclass
class EvaluateModel:
    eval_task: str
    backend_name: str = "local"


@dataclass
class TrainAndEvaluateConfig:
    prepare_dataset: PrepareDataset
    submit_training: SubmitTraining
    wait_for_training: WaitForTraining
    evaluate_model: EvaluateModel


def named(place: str):
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


def prepare_dataset(config: PrepareDataset):
    points, held_out = (named(config.dataset_loader)(**config.loader_kwargs, seed=s) for s in (0, 1))
    return {"points": points, "held_out": held_out}


async def submit_training(config: SubmitTraining, points, user):
    "Gradient descent in mini-batches, as many passes as there are epochs"
    settings = config.hyperparameters
    rng, x, y = np.random.default_rng(settings.get("seed", 0)), np.array(points["x"]), np.array(points["y"])
    x, weights = np.c_[x, np.ones(len(x))], rng.normal(0, 0.5, 3)
    for _ in range(settings["n_epochs"]):
        for batch in np.array_split(rng.permutation(len(x)), max(1, len(x) // settings["batch_size"])):
            error = 1 / (1 + np.exp(-x[batch] @ weights)) - y[batch]
            weights -= settings["learning_rate"] * 1e3 * x[batch].T @ error / len(batch)
    return {"weights": weights.tolist(), "model_name": f"{config.model}-{config.suffix}", "trained_by": user}


def wait_for_training(weights):
    assert np.isfinite(weights).all()


def accuracy_and_f1(weights, points) -> dict:
    x, y = np.array(points["x"]), np.array(points["y"])
    said = np.c_[x, np.ones(len(x))] @ weights > 0
    return {
        "accuracy": float((said == y).mean()),
        "f1_score": float(2 * (said & (y == 1)).sum() / (said.sum() + y.sum())),
        "stats": {"n": len(y)},
    }


def evaluate_model(config: EvaluateModel, weights, held_out):
    task = config.eval_task.partition(":")[2]
    return {"eval_results": {task: named(config.eval_task)(weights, held_out)}}


train_and_evaluate_workflow = Workflow(
    "train_and_evaluate",
    [
        Step("prepare_dataset", prepare_dataset, PrepareDataset),
        Step("submit_training", submit_training, SubmitTraining),
        Step("wait_for_training", wait_for_training, WaitForTraining),
        Step("evaluate_model", evaluate_model, EvaluateModel),
    ],
)
