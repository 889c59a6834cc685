"""The benchmark of real forms, on a folder of drawn ones"""

import json
import sys
from pathlib import Path

import pytest

from vote_experiments.synthesis.drawn import form_set

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks import real  # noqa: E402


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    home = tmp_path_factory.mktemp("real")
    records = []
    for seed, kind in ((9001, "5/18"), (9003, "5/17")):
        drawn = form_set(seed, level="flatbed", options="plain", kind=kind)
        paths = []
        for i, page in enumerate(drawn.pages):
            paths.append(f"pages/{seed}_{i}.jpg")
            (home / "pages").mkdir(exist_ok=True)
            (home / paths[-1]).write_bytes(page)
        truth = drawn.record["ground_truth"]
        truth = truth[0] if isinstance(truth, list) else truth
        records.append(
            {
                "id": str(seed),
                "input": {"image_paths": paths},
                "expected_output": truth,
                "metadata": {"form_code": kind, "scan": "flatbed"},
            }
        )
    (home / "truth.json").write_text(json.dumps({"name": "drawn", "records": records}, ensure_ascii=False))
    return home


def test_tables_by_code_province_and_image(folder, capsys):
    assert real.main(["--data", str(folder), "--model", "ocr-sums", "--json"]) == 0
    tables = json.loads(capsys.readouterr().out)
    assert set(tables) == {"all", "code", "province", "image"}
    assert [r["form sets"] for r in tables["all"]] == [2] and {r["code"] for r in tables["code"]} == {"5/18", "5/17"}
    assert float(tables["all"][0]["vote numbers"].split()[0]) >= 80


def test_what_counts_as_right():
    truth = {
        "vote_results": [
            {"number": 1, "vote_count": 10},
            {"number": 2, "vote_count": None},
            {"number": 3, "vote_count": 7},
        ],
        "total_votes_recorded": 17,
        "ballot_statistics": {"good_ballots": 17, "good_ballots_text": "สิบเจ็ด"},
    }
    read = {
        "vote_results": [
            {"number": 1, "vote_count": 10},
            {"number": 2, "vote_count": 0},
            {"number": 3, "vote_count": 1},
        ],
        "total_votes_recorded": 17,
        "ballot_statistics": {"good_ballots": 11},
    }
    sure = {"vote_results[number=1].vote_count": 0.95, "vote_results[number=3].vote_count": 0.5}
    right = list(real.judged(read, truth, sure))
    assert [v for f, v in right if f == "vote numbers"] == [True, False]
    assert [v for f, v in right if f == "blank"] == [True, False, True]
    assert [v for f, v in right if f == "sure"] == [True] and [v for f, v in right if f == "covered"] == [True, False]
    assert dict(right)["sets"] is False and dict(right)["rows"] is True and dict(right)["ballot lines"] is False
    assert real.errors(read, truth, sure)[1].startswith("row 3: 7 read 1")


def test_a_folder_without_a_truth_file_is_refused(tmp_path):
    with pytest.raises(SystemExit, match="truth file"):
        real.main(["--data", str(tmp_path)])
