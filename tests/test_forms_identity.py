"""Which form is this: places, numbers and codes in every spelling, and which of two lists belong together"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vote_experiments.forms.identity import agreement, identity_of, match_identities, plain_ordinal
from vote_experiments.forms.places import LEVELS, find_place, nearest_name, place_list, plain_place
from vote_experiments.forms.thai import to_thai_digits

PLACES = place_list()
some_province = st.sampled_from(sorted(PLACES))
PREFIXES = {
    "province": ("", "จังหวัด", "จ.", "จ. ", "จังหวัด "),
    "district": ("", "อำเภอ", "อ.", "อ. "),
    "sub_district": ("", "ตำบล", "ต.", "ต. ", "แขวง"),
}


def at(**header):
    return identity_of({"form_type": "Constituency", **header})


@given(some_province, st.data())
def test_one_station_in_every_spelling_is_one_identity(province, data):
    district = data.draw(st.sampled_from(sorted(PLACES[province])))
    sub_district = data.draw(st.sampled_from(sorted(PLACES[province][district])))
    n = data.draw(st.integers(1, 99))

    def spelled():
        number = data.draw(
            st.sampled_from(
                [str(n), f"0{n}", f"{n}.0", to_thai_digits(n), f"หน่วยที่ {n}", f"หน่วยเลือกตั้งที่ {to_thai_digits(n)}"]
            )
        )
        seat = data.draw(st.sampled_from(["2", "เขต 2", "เขต ๒", "02", "เขตเลือกตั้งที่ ๒", "2.0"]))
        names = {
            level: data.draw(st.sampled_from(PREFIXES[level])) + name
            for level, name in zip(LEVELS, (province, district, sub_district))
        }
        return at(constituency_number=seat, polling_station_number=number, **names)

    a, b = spelled(), spelled()
    assert a == b and a.place == b.place and a.seat == ("Constituency", province, "2") and not a.missing


@given(some_province, some_province, st.integers(1, 30), st.integers(1, 30))
def test_different_places_are_never_one(p, q, m, n):
    a = at(province=p, constituency_number=1, sub_district="ก", polling_station_number=m)
    b = at(province=q, constituency_number=1, sub_district="ก", polling_station_number=n)
    assert (a == b) == (p == q and m == n) == (agreement(a, b) is not None)


@pytest.mark.parametrize(
    "written, name",
    [
        ("กทม.", "กรุงเทพมหานคร"),
        ("กรุงเทพฯ", "กรุงเทพมหานคร"),
        ("จ.อุทัยธานึ", "อุทัยธานี"),
        ("นครศรีธรรมราข", "นครศรีธรรมราช"),
        ("โคราช", "นครราชสีมา"),
    ],
)
def test_provinces_by_other_names_and_nearly_equal_ones(written, name):
    place = find_place("province", written)
    assert (place.name, place.written, place.is_listed) == (name, written, True)


def test_no_listed_name_is_taken_for_another():
    for province, districts in PLACES.items():
        assert find_place("province", province).name == province
        for district, names in districts.items():
            assert find_place("district", district, province).name == district
            for name in names:
                assert find_place("sub_district", name, province, district).name == name


def test_a_name_between_two_listed_ones_stays_as_written():
    assert nearest_name("หนองแส", ("หนองแสน", "หนองแสง"))[0] is None


def test_a_municipality_is_not_the_sub_district_of_its_name():
    assert (
        plain_place("sub_district", "ทต.บ้านไร่")
        == plain_place("sub_district", "เทศบาลตำบล บ้านไร่")
        != plain_place("sub_district", "ต.บ้านไร่")
    )


def test_the_committee_of_advance_votes_and_the_copy_of_a_station():
    advance = identity_of(
        {"form_type": "ส.ส. ๕/๑๗ (บช)", "province": "แพร่", "constituency_number": 1, "set_number": "๓"}
    )
    assert (advance.code, advance.ballot, advance.committee, advance.copy, advance.missing) == (
        "5/17",
        "PartyList",
        "3",
        None,
        (),
    )
    station = at(
        province="แพร่", constituency_number=1, sub_district="ในเวียง", polling_station_number=4, set_number="ชุดที่ ๑"
    )
    again = at(
        province="แพร่", constituency_number=1, sub_district="ในเวียง", polling_station_number=4, set_number="ชุดที่ ๒"
    )
    assert (
        station.copy == "1"
        and station.committee is None
        and station.place == again.place
        and agreement(station, again) == 5
    )


def test_a_summary_has_no_station_and_is_its_own_place():
    summary = identity_of(
        {"form_type": "ส.ส. ๖/๑", "province": "แพร่", "constituency_number": 1, "polling_station_number": None}
    )
    assert summary.kind.is_summary and summary.missing == () and summary.place == ("6/1", "Constituency", "แพร่", "1")


@pytest.mark.parametrize(
    "text, number", [("2/1", "2/1"), ("๐๑", "1"), ("007", "7"), ("0", "0"), ("หมู่ที่ ๑๒", "12"), (3.0, "3"), (" ", None)]
)
def test_numbers_that_name_something(text, number):
    assert plain_ordinal(text) == number


@given(st.lists(st.tuples(st.sampled_from(["ก", "ข", "ค"]), st.integers(1, 5)), unique=True, max_size=12), st.randoms())
def test_matching_finds_every_place_in_any_order_and_nothing_else(stations, random):
    left = [at(province="แพร่", constituency_number=1, sub_district=t, polling_station_number=n) for t, n in stations]
    chosen = random.sample(range(len(left)), random.randint(0, len(left)))
    matches = match_identities(left, [left[i] for i in chosen])
    assert dict(matches.pairs) == {i: chosen.index(i) for i in chosen}
    assert (
        set(matches.only_left) == set(range(len(left))) - set(chosen)
        and not matches.only_right
        and not matches.ambiguous
    )


def test_what_fits_two_places_is_reported_and_not_guessed():
    stations = [at(province="แพร่", sub_district=t, polling_station_number=1) for t in ("ในเวียง", "นาจักร")]
    matches = match_identities([at(province="แพร่", polling_station_number=1)], stations)
    assert matches.pairs == () and matches.ambiguous == ((0, (0, 1)),) and matches.only_right == (0, 1)
