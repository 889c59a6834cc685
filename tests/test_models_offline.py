"""The offline readers as models"""

import pickle
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from vote_experiments.synthesis.drawn import form_set
from vote_experiments.models import offline
from vote_experiments.models.registry import get_model, model_available
from vote_experiments.records import Extraction, Model
from vote_experiments.settings import OFFLINE_MODELS


@pytest.fixture(scope="module")
def item(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    drawn = form_set(7051, level="scan", kind="Constituency")
    paths = [folder / f"หน้า {i}.jpg" for i, _ in enumerate(drawn.pages, 1)]
    for path, data in zip(paths, drawn.pages):
        path.write_bytes(data)
    return (
        [str(p) for p in paths],
        {"roots": [str(folder)], "candidates": drawn.record["metadata"]["candidates"]},
        drawn.record["ground_truth"],
    )


@pytest.mark.parametrize("name", OFFLINE_MODELS)
def test_each_is_a_model_and_answers(item, name):
    images, config, truth = item
    model = get_model(name)
    assert isinstance(model, Model) and model.name == name and model.cpu_bound and model_available(name) is None
    answer = model.extract(images, {"model": name, "temperature": 0.0, **config})
    assert isinstance(answer, Extraction) and answer.problem is None and answer.cost_usd == 0.0 and answer.latency_s > 0
    assert answer.model_version == f"{name} {offline.VERSION}"  # two readers are two models
    assert len(answer.output["reports"][0]["vote_results"]) == len(truth["vote_results"])


def test_the_same_pages_give_the_same_answer_in_another_process(item):
    images, config, _ = item
    model = pickle.loads(pickle.dumps(get_model("ocr-fused-names")))
    here = model.extract(images, config).output
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        there = pool.submit(model.extract, images, config).result()
    assert there.output == here


def test_what_cannot_be_read_is_an_error_that_says_why(item, tmp_path):
    images, config, _ = item
    model = get_model("ocr-digits")
    with pytest.raises(FileNotFoundError, match="page9"):
        model.extract([*images, images[0] + "page9"], config)
    with pytest.raises(PermissionError, match="VOTE_EXPERIMENTS_ROOTS"):
        model.extract(["/etc/passwd"], config)
    with pytest.raises(PermissionError):
        model.extract(images, {"roots": [str(tmp_path)]})
    with pytest.raises(ValueError, match="not a known form"):
        model.extract([], config)


def test_unknown_names():
    with pytest.raises(ValueError, match="ocr-magic.*ocr-fused"):
        offline.open_model("ocr-magic")
    assert "ocr-magic" in offline.unavailable("ocr-magic")


def test_without_tesseract_only_the_digit_reader_is_available():
    code = (
        "import sys; sys.modules['tesserocr'] = None\n"
        "from vote_experiments.models.registry import model_available\n"
        "print([model_available(m) is None for m in ('ocr-words', 'ocr-digits', 'ocr-fused', 'ocr-fused-names')])\n"
        "print(model_available('ocr-fused'))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    assert out[0] == "[False, True, False, False]"
    assert "tesserocr" in out[1] and "ocr-digits" in out[1]


def test_knowing_a_model_loads_nothing_heavy():
    code = (
        "import sys\nfrom vote_experiments.models.registry import get_model, model_available\n"
        "get_model('ocr-fused'), model_available('ocr-fused')\nprint(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"cv2", "numpy", "PIL", "sklearn"} & set(loaded)


def test_a_worker_loads_neither_training_nor_generator(item):
    images, config, _ = item
    code = (
        f"import sys\nfrom vote_experiments.models.offline import open_model\n"
        f"open_model('ocr-fused').extract({images!r}, {{'roots': {config['roots']!r}}})\nprint(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {
        "sklearn",
        "scipy",
        "pandas",
        "matplotlib",
        "pydantic",
        "sqlalchemy",
        "vote_experiments.synthesis.drawn",
        "vote_experiments.synthesis.handwriting",
    } & set(loaded)
