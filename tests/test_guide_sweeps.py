"""The guide to sweeps, as written: only imports and the names of services (loader, model, task, backends) are ours."""

import asyncio
import warnings

import matplotlib.image
import pandas as pd
import pytest
from promises import promise

from vote_experiments.analysis import (
    collate_sweep_evals,
    compute_ci_df,
    plot_sweep_heatmap,
    plot_sweep_metric,
    plot_sweep_metrics,
)
from vote_experiments.workflow import run_sweep
from train_and_evaluate import TrainAndEvaluateConfig, train_and_evaluate_workflow


@pytest.fixture(autouse=True)
def own_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VOTE_EXPERIMENTS_STORE", str(tmp_path / "store.db"))


def base(suffix="sweep"):
    return TrainAndEvaluateConfig(
        prepare_dataset={
            "dataset_loader": "train_and_evaluate:noisy_points",
            "loader_kwargs": {"num_samples": 100},
        },
        submit_training={
            "model": "logistic-regression",
            "hyperparameters": {
                "n_epochs": 2,
                "lora_rank": 8,
                "batch_size": 4,
            },
            "suffix": suffix,
            "backend_name": "numpy",
        },
        wait_for_training={},
        evaluate_model={
            "eval_task": "train_and_evaluate:accuracy_and_f1",
            "backend_name": "numpy",
        },
    )


def swept(param_grid, **more):
    return asyncio.run(
        run_sweep(
            workflow=train_and_evaluate_workflow,
            base_config=base(),
            param_grid=param_grid,
            input_atoms={},
            user="alice",
            max_parallel=3,
            **more,
        )
    )


def collated(results, **more):
    return asyncio.run(
        collate_sweep_evals(sweep_states=results, eval_step_name="evaluate_model", eval_atom_key="eval_results", **more)
    )


RATES = {"submit_training.hyperparameters.learning_rate": [1e-4, 5e-5, 1e-5]}


@promise("sweeps-64", "sweeps-65", "sweeps-66", "guide-differences-7")
def test_the_complete_example(capsys, tmp_path):
    async def main():
        # 1. Define base config
        base_config = base("lr-sweep")

        # 2. Run sweep
        param_grid = {
            "submit_training.hyperparameters.learning_rate": [1e-4, 5e-5, 1e-5],
        }

        results = await run_sweep(
            workflow=train_and_evaluate_workflow,
            base_config=base_config,
            param_grid=param_grid,
            input_atoms={},
            user="alice",
            max_parallel=3,
        )

        # 3. Collate results
        df = await collate_sweep_evals(
            sweep_states=results,
            eval_step_name="evaluate_model",
            eval_atom_key="eval_results",
        )

        # 4. Analyze
        ci_df = compute_ci_df(df, value_col="accuracy", group_cols=["learning_rate"])
        print(ci_df)

        # 5. Visualize
        fig = plot_sweep_metric(df, x_col="learning_rate", y_col="accuracy")
        fig.savefig("results.png")

        # 6. Find best config
        best_idx = df["accuracy"].idxmax()
        best_config = df.loc[best_idx]
        print(f"Best learning rate: {best_config['learning_rate']}")
        print(f"Best accuracy: {best_config['accuracy']}")

        # Practice 4: save results
        df.to_csv("sweep_results.csv", index=False)
        return df, ci_df

    df, ci_df = asyncio.run(main())
    assert list(df.columns) == ["learning_rate", "task", "accuracy", "f1_score"] and len(df) == 3
    assert df["accuracy"].max() > 0.8 > df["accuracy"].min(), "some of them learn, some do not"
    assert ci_df["learning_rate"].tolist() == [1e-4, 5e-5, 1e-5] and ci_df["count"].tolist() == [1, 1, 1]
    assert matplotlib.image.imread("results.png").shape[0] > 100
    said = capsys.readouterr().out
    assert f"Best learning rate: {df.loc[df['accuracy'].idxmax(), 'learning_rate']}" in said
    pd.testing.assert_frame_equal(pd.read_csv("sweep_results.csv"), df, check_dtype=False)


@promise("sweeps-1", "sweeps-2", "sweeps-9", "sweeps-14", "sweeps-22")
def test_the_basic_sweep():
    results = swept(RATES)
    assert asyncio.iscoroutinefunction(run_sweep) and len(results) == 3
    assert [s.config.submit_training["hyperparameters"]["learning_rate"] for s in results] == [1e-4, 5e-5, 1e-5]
    assert results[0].step("submit_training").output_atoms["model_name"] == "logistic-regression-sweep"
    assert (
        {s.user for s in results}
        == {"alice"}
        == {s.step("submit_training").output_atoms["trained_by"] for s in results}
    )


@promise("sweeps-30", "sweeps-31", "sweeps-33", "sweeps-34")
def test_collating_specific_metrics():
    results = swept(RATES)
    assert list(collated(results).columns) == ["learning_rate", "task", "accuracy", "f1_score"]
    assert list(collated(results, metrics="accuracy").columns) == ["learning_rate", "task", "accuracy"]
    assert list(collated(results, metrics=["f1_score", "accuracy"]).columns) == [
        "learning_rate",
        "task",
        "f1_score",
        "accuracy",
    ]


@promise("sweeps-56", "sweeps-57")
def test_every_plot_of_the_guide(tmp_path):
    df = collated(swept({**RATES, "submit_training.hyperparameters.lora_rank": [4, 8]}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plot_sweep_metric(df=df, x_col="learning_rate", y_col="accuracy", title="Learning Rate vs Accuracy").savefig(
            "a.png"
        )
        fig = plot_sweep_metrics(
            df=df, x_col="learning_rate", y_cols=["accuracy", "f1_score"], title="Learning Rate Comparison"
        )
        fig.savefig("b.png")
        plot_sweep_heatmap(
            df=df, x_col="learning_rate", y_col="lora_rank", value_col="accuracy", title="Hyperparameter Heatmap"
        ).savefig("c.png")
    assert all(matplotlib.image.imread(f"{n}.png").std() > 0.01 for n in "abc")


@promise("sweeps-12", "sweeps-24")
def test_meaningful_suffixes_are_a_full_product():
    results = swept(
        {"submit_training.hyperparameters.learning_rate": [1e-4, 5e-5], "submit_training.suffix": ["lr-1e4", "lr-5e5"]}
    )
    assert [s.step("submit_training").output_atoms["model_name"].partition("-lr")[2] for s in results] == [
        "-1e4",
        "-5e5",
    ] * 2
    assert [s.config.submit_training["hyperparameters"]["learning_rate"] for s in results] == [1e-4, 1e-4, 5e-5, 5e-5]


@promise("sweeps-23")
def test_seeds_are_repeated_measures():
    df = collated(
        swept(
            {
                "submit_training.hyperparameters.learning_rate": [1e-4, 5e-5],
                "submit_training.hyperparameters.seed": [1, 2, 3],
            }
        )
    )
    ci_df = compute_ci_df(df=df, value_col="accuracy", group_cols=["learning_rate"], confidence=0.95)
    assert ci_df["count"].tolist() == [3, 3] and df.groupby("learning_rate")["accuracy"].nunique().max() > 1
    assert (ci_df["lower_bound"] <= ci_df["mean"]).all() and (ci_df["mean"] <= ci_df["upper_bound"]).all()
