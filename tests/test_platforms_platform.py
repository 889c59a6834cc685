"""What every platform is handed: rows with their steps, requests of a bearable size, errors that name what is wrong"""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vote_experiments.platforms.platform import (
    PlatformDown,
    RemoteNotFoundError,
    RowToPublish,
    check_pushed,
    dataset_not_found,
    in_requests,
    in_words,
)
from vote_experiments.records import DatasetItem, ItemResult, Observation


@given(st.lists(st.text(max_size=30)), st.integers(1, 7), st.none() | st.integers(1, 60))
def test_requests_hold_everything_once_and_are_no_larger_than_they_may(parts, most, largest):
    requests = list(in_requests(parts, most, largest))
    assert [p for r in requests for p in r] == parts and all(requests)
    for request in requests:
        assert len(request) <= most
        assert largest is None or sum(map(len, request[:-1])) < largest
    for request in requests[:-1]:
        assert len(request) == most or (largest is not None and sum(map(len, request)) >= largest)


def test_parts_are_made_when_they_are_needed():
    made = []
    requests = in_requests((made.append(k) or k for k in range(10)), 3)
    assert next(requests) == [0, 1, 2] and made == [0, 1, 2]


def test_a_step_has_a_place_and_times_whatever_was_recorded():
    seen = [
        Observation("no id"),
        Observation("above", id="a", start_time=11.0),
        Observation("below", id="b", parent_id="a", end_time=15.0),
        Observation("its own parent", id="c", parent_id="c"),
        Observation("elsewhere", id="d", parent_id="not-of-this-row"),
    ]
    row = RowToPublish(ItemResult(DatasetItem("r")), 10.0, 12.0, seen)
    assert [(s.call.name, s.parent_id, s.start_time, s.end_time) for s in row.steps] == [
        ("no id", None, 10.0, 10.0),
        ("above", None, 11.0, 11.0),
        ("below", "a", 10.0, 15.0),
        ("its own parent", None, 10.0, 10.0),
        ("elsewhere", None, 10.0, 10.0),
    ]


def test_what_is_understood_already_is_not_explained_again():
    def explained(error, *clear):
        with in_words(lambda e: PlatformDown(f"explained {e}"), *clear):
            raise error

    for clear in (PlatformDown("down"), RemoteNotFoundError("gone")):
        with pytest.raises(type(clear), match=f"^{clear}$"):
            explained(clear)
    with pytest.raises(PlatformDown, match="explained wrong"):
        explained(ValueError("wrong"))
    with pytest.raises(ValueError, match="^wrong$"):
        explained(ValueError("wrong"), ValueError)
    with pytest.raises(KeyboardInterrupt):
        explained(KeyboardInterrupt())


def test_a_dataset_that_is_not_there_is_told_with_those_that_are():
    assert "it has 'golden'. Push one with push_dataset('goldne', backend='langfuse')" in str(
        dataset_not_found("Langfuse", "goldne", ["poor scans", "golden"], "langfuse")
    )
    assert "it has none yet." in str(dataset_not_found("Langfuse", "golden", [], "langfuse"))
    assert str(dataset_not_found("Langfuse", "ก", [f"d{k}" for k in range(9)], "langfuse")).count("'d") == 5


@pytest.mark.parametrize(
    ("wanted", "there", "exactly", "wrong"),
    [
        ("ab", "a", False, "1 missing, such as 'b'"),
        ("ab", "ac", True, "1 missing, such as 'b'"),
        ("ab", "abc", True, "1 that were to be removed, such as 'c'"),
    ],
)
def test_what_was_pushed_is_counted(wanted, there, exactly, wrong):
    check_pushed("golden", wanted, "xab")
    check_pushed("golden", "ab", "ba", exactly=True)
    with pytest.raises(PlatformDown, match=f"reading back finds {len(there)} .{wrong}.; push it again"):
        check_pushed("golden", wanted, there, exactly)


def test_a_dataset_that_a_platform_does_not_have_is_404_over_http():
    from fastapi import HTTPException

    from vote_experiments.server.service import ended
    from vote_experiments.server.jobs import Job

    fields = {f.name: None for f in dataclasses.fields(Job)}
    job = Job(**{**fields, "status": "failed", "error": "RemoteNotFoundError: Langfuse has no dataset 'golden'"})
    with pytest.raises(HTTPException, match="Langfuse has no dataset 'golden'") as raised:
        ended(job, "http://localhost:8000")
    assert raised.value.status_code == 404
