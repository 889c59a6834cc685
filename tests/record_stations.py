"A store with drawn form sets and a run over them in which everything that can be odd is; shared by the record widgets' tests"

import copy
import functools
from pathlib import Path
from types import SimpleNamespace

import pytest

from vote_experiments.datasets.saving import save_dataset
from vote_experiments.store.database import Store
from vote_experiments.experiments.comparison import run_model_experiments
from vote_experiments.synthesis.drawn import form_set

SCRIPT = "<script>window.pwned=1</script>"
IMAGE = '"><img src=x onerror="window.pwned=2">'
KINDS = {"a right": "Constituency", "b wrong": "Constituency", "c gone": "Constituency", f"d {SCRIPT}": "both"}


@functools.cache
def _drawn(seed: int, kind: str):
    return form_set(seed, level="clean", options="hard" if seed == 2 else "plain", kind=kind)


def draw_stations(folder: Path) -> list[dict]:
    "Four form sets; one page of the third is not there"
    records = []
    for seed, (name, kind) in enumerate(KINDS.items(), 1):
        drawn = _drawn(seed, kind)
        for path, page in zip(drawn.record["input"]["image_paths"], drawn.pages):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(page)
        records.append({**copy.deepcopy(drawn.record), "id": name})
    records[2]["input"]["image_paths"][1] = "pages/deleted.jpg"
    return records


def stations_with_a_run(folder: Path) -> SimpleNamespace:
    "store, group (of two models), truths by item id, names of the items"
    patch = pytest.MonkeyPatch()
    patch.setenv("VOTE_EXPERIMENTS_RUNS", str(folder / "runs"))
    store, records = Store(folder / "store.db"), draw_stations(folder)
    truths = {r["id"]: copy.deepcopy(r["ground_truth"]) for r in records}
    records[0]["ground_truth"]["ballot_statistics"]["good_ballots"] += 7  # a wrong label: both models say otherwise
    save_dataset("stations", records, root=folder, store=store, provenance={"imported_from": "stations.json"})

    def read_station(item, config):
        answer, hasty = copy.deepcopy(truths[item.id]), config["model"] == "ocr-words"
        if hasty and item.id.startswith("b"):
            answer["vote_results"][2]["vote_count"] = 4321
            answer["form_info"]["district"] = SCRIPT + IMAGE
        if hasty and item.id.startswith("c"):
            raise TimeoutError(f"no answer in 60 s {SCRIPT}")
        return answer

    result = run_model_experiments(
        dataset_name="stations",
        store=store,
        backend="local",
        raise_errors=False,
        show_comparison=False,
        task_function=read_station,
        model_configs=[{"model": m, "name_suffix": m} for m in ("ocr-fused", "ocr-words")],
    )
    patch.undo()
    return SimpleNamespace(
        store=store, group=result["group_id"], result=result, truths=truths, folder=folder, path=folder / "store.db"
    )
