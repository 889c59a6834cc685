"Thai digits, number words, dates and names"

import datetime as dt
import math

import pytest
from hypothesis import given, strategies as st
from num2words import num2words

from vote_experiments.forms.thai import (
    DIGIT_WORDS,
    MONTHS,
    PLACE_WORDS,
    normalise_name,
    normalise_party,
    normalise_text,
    number_words,
    parse_date,
    parse_number,
    parse_number_words,
    split_number,
    to_arabic_digits,
    to_thai_digits,
)

lookalikes = st.text(alphabet=" \u00a0\t\n\u200b\ufeffก\u0e48\u0e4d\u0e32\u0e33\u0e35\u0e38เแa")
thai_text = st.text(alphabet=st.characters(min_codepoint=0x0E01, max_codepoint=0x0E5B) | st.sampled_from(" .\u200ba1"))


@given(st.text())
def test_digits_both_ways_change_only_digits(text):
    assert to_arabic_digits(to_thai_digits(text)) == to_arabic_digits(text)
    assert len(to_thai_digits(text)) == len(text)


@given(st.integers(0, 10**9))
def test_every_spelling_of_a_number_is_read(n):
    for written in (n, float(n), str(n), f"{n:,}", f" {n} ", f"{n}.0", f"{n} คะแนน"):
        assert parse_number(written) == n
        if isinstance(written, str):
            assert parse_number(to_thai_digits(written)) == n


@pytest.mark.parametrize("nothing", [None, "", "  ", "null", "NULL", "None", "-", math.nan, "\u200b"])
def test_nothing_written_is_none_and_not_zero(nothing):
    assert parse_number(nothing) is None


def test_zero_is_a_value():
    assert parse_number(0) == parse_number("๐") == parse_number("0") == 0
    assert parse_number(0) is not None


@pytest.mark.parametrize(
    "bad",
    [
        "abc",
        "12O",
        "1,23",
        "1,2345",
        ",1",
        "1-2",
        "12.5",
        12.5,
        True,
        math.inf,
        [],
        {},
        b"1",
        "9" * 5000,
        10**30,
        "二",
        "٣",
        "สิบ",
    ],
)
def test_what_is_not_a_number_is_an_error_that_names_it(bad):
    with pytest.raises(ValueError, match="is not a number"):
        parse_number(bad)


@given(st.text())
def test_parse_number_raises_nothing_but_value_error(text):
    try:
        n = parse_number(text)
    except ValueError:
        return
    assert n is None or isinstance(n, int)


def words_that_differ_from_the_oracle(numbers) -> list[int]:
    words = ((n, number_words(n)) for n in numbers)
    return [n for n, text in words if text != num2words(n, lang="th") or parse_number_words(text) != n]


def test_number_words_agree_with_num2words_and_are_read_back():
    assert words_that_differ_from_the_oracle([*range(3_000), *range(3_000, 200_000, 37)]) == []


@pytest.mark.slow
def test_number_words_agree_with_num2words_and_are_read_back_for_every_number_of_a_form():
    assert words_that_differ_from_the_oracle(range(200_000)) == []


@given(st.integers(0, 10**12 - 1))
def test_number_words_are_read_back_far_beyond_any_form(n):
    assert parse_number_words(number_words(n)) == n


@pytest.mark.parametrize("bad", [-1, 10**12, 1.0, True, "5", None])
def test_words_exist_only_for_numbers_a_form_can_hold(bad):
    with pytest.raises(ValueError, match="n="):
        number_words(bad)


words = st.lists(st.sampled_from([*DIGIT_WORDS, *PLACE_WORDS, "ล้าน", "ยี่", "เอ็ด"]), max_size=7).map("".join)


def canonical(text: str) -> str:
    "The documented variants respelled as `number_words` writes them"
    for digit, leading in (("หนึ่งสิบ", "สิบ"), ("สองสิบ", "ยี่สิบ")):
        text = text.replace(digit, leading)
    if text.startswith(("แสน", "หมื่น", "พัน", "ร้อย", "ล้าน")):
        text = "หนึ่ง" + text
    for place in (*PLACE_WORDS, "ล้าน"):
        if text.endswith(place + "หนึ่ง"):
            text = text.removesuffix("หนึ่ง") + "เอ็ด"
        text = text.replace(place + "หนึ่งล้าน", place + "เอ็ดล้าน")
    return text


@given(words)
def test_only_well_formed_words_are_numbers(text):
    n = parse_number_words(text)
    figure_by_figure = "".join(DIGIT_WORDS[int(c)] for c in str(n)) if n is not None else ""
    assert (
        n is None or number_words(n) == canonical(text) or len(str(n)) > 2 and figure_by_figure == text.replace(" ", "")
    )


@given(thai_text | st.text())
def test_rubbish_words_are_none_and_never_raise(text):
    assert parse_number_words(text) is None or parse_number_words(text) >= 0


@pytest.mark.parametrize(
    "text, n",
    [
        ("ยี่สิบหนึ่ง", 21),
        ("หนึ่งร้อยหนึ่ง", 101),
        ("ร้อยห้าสิบ", 150),
        ("พัน", 1000),
        ("หนึ่งสิบ", 10),
        ("สองสิบ", 20),
        ("ศูนย์", 0),
        ("ศูนย์คะแนน", 0),
        ("ห้าสิบคะแนน", 50),
        ("ห้าสิบบัตร", 50),
        ("ห้าสิบถ้วน", 50),
        ("ห้าสิบคะแนนถ้วน", 50),
        ("( ห้า สิบ )", 50),
        ("-ห้าสิบ-", 50),
        ("ล้านเอ็ด", 1_000_001),
        ("สิบเอ็ดล้าน", 11_000_000),
    ],
)
def test_what_people_write(text, n):
    assert parse_number_words(text) == n


@pytest.mark.parametrize(
    "text",
    [
        "สองสาม",
        "ร้อยพัน",
        "สิบร้อย",
        "เอ็ด",
        "เอ็ดสิบ",
        "ยี่",
        "ยี่ร้อย",
        "ศูนย์สิบ",
        "สิบศูนย์",
        "สองพันร้อย",
        "ห้าสิบหน่วย",
        "คะแนน",
        "ถ้วน",
        "หนึ่งล้านล้านล้าน",
        "120",
        "สิบ 2",
        None,
        "",
    ],
)
def test_what_is_no_number(text):
    assert parse_number_words(text) is None


def test_decomposed_am_in_words():
    assert parse_number_words("\u200bห้าสิบ ") == 50


@given(st.dates(min_value=dt.date(1900, 1, 1), max_value=dt.date(2100, 1, 1)))
def test_every_spelling_of_a_date(day):
    be, month = day.year + 543, list(MONTHS)[day.month - 1]
    for written in (
        f"{day.day} {month} {be}",
        f"{day.day:02}/{day.month:02}/{be}",
        day.isoformat(),
        f"{be}-{day.month:02}-{day.day:02}",
        f"วันที่ {day.day} เดือน {month} พ.ศ. {be}",
        to_thai_digits(f"{day.day} {month} {be}"),
        day,
        f"{day.day} {day:%B} {day.year}",
    ):
        assert parse_date(written) == day.isoformat()


@pytest.mark.parametrize(
    "short, month", zip("ม.ค. ก.พ. มี.ค. เม.ย. พ.ค. มิ.ย. ก.ค. ส.ค. ก.ย. ต.ค. พ.ย. ธ.ค.".split(), range(1, 13))
)
def test_short_months_and_short_years(short, month):
    assert parse_date(f"9 {short} 66") == parse_date(f"๙{short}๒๕๖๖") == f"2023-{month:02}-09"


@pytest.mark.parametrize(
    "bad", ["31/02/2566", "14", "14 พฤษ 2566", "พฤษภาคม 2566", "2566", "0/0/0", "14/05/256", 14, "14 พ.ค."]
)
def test_what_is_no_date_is_an_error_that_names_it(bad):
    with pytest.raises(ValueError, match=str(bad)):
        parse_date(bad)


@given(lookalikes | thai_text | st.text())
def test_normalise_text_is_idempotent(text):
    once = normalise_text(text)
    assert normalise_text(once) == once


@given(lookalikes)
def test_normalised_text_is_free_of_what_cannot_be_seen(text):
    plain = normalise_text(text)
    assert plain == " ".join(plain.split())
    assert not set(plain) & set("\u200b\ufeff") and "เเ" not in plain and "\u0e4d\u0e32" not in plain


@given(thai_text | st.text())
def test_normalise_name_has_no_spaces_and_never_raises(text):
    assert " " not in normalise_name(text)


@pytest.mark.parametrize(
    "title",
    [
        "นาย",
        "นาง",
        "นางสาว",
        "น.ส.",
        "พันตำรวจโท",
        "พ.ต.ท.",
        "ว่าที่ร้อยตรี",
        "ว่าที่ ร.ต.",
        "ร้อยเอก",
        "พลเรือตรี",
        "นาวาอากาศเอก",
        "เรืออากาศโท",
        "จ่าสิบตำรวจ",
        "จ่าสิบเอก",
        "ดาบตำรวจ",
        "พลตำรวจเอก",
        "ร้อยตำรวจโทหญิง",
        "ดร.",
        "ผศ.ดร.",
        "ม.ร.ว.",
        "หม่อมหลวง",
        "นายแพทย์",
        "แพทย์หญิง",
        "พล.ต.อ. ดร.",
        "สิบตำรวจเอก",
        "Mr. ",
    ],
)
def test_titles_do_not_make_another_person(title):
    for name in ("สมชาย ใจดี", "อรพรรณ ณ อยุธยา"):
        bare = normalise_name(name)
        assert normalise_name(title + name) == normalise_name(f"{title} {name}") == bare
        assert normalise_name(title + name, strip_title=False) != bare


@pytest.mark.parametrize(
    "name", ["นายิกา ใจดี", "พลวัต ใจดี", "จ่าง แซ่ตั้ง", "เรืองศักดิ์ สุข", "สิบทิศ ดี", "พันธ์ศักดิ์ ดี", "ดรุณี ดี", "เอกชัย ดี", "ตรีชฎา ดี"]
)
def test_names_that_begin_like_a_title_stay_whole(name):
    assert normalise_name(name) == name.replace(" ", "")


def test_a_title_alone_is_not_stripped_to_nothing():
    assert normalise_name("นาย") == "นาย"


@pytest.mark.parametrize(
    "cell, n",
    [
        ("8 (แปด)", 8),
        ("254 บัตร (สองร้อยห้าสิบสี่)", 254),
        ("281/", 281),
        ("-12-", 12),
        ("281.-", 281),
        ("(281)", 281),
        ("๑๙ /", 19),
        ("= 36 =", 36),
        ("[1,204]", 1204),
        ("....17....", 17),
        ("๔๕ คะแนน (สี่สิบห้าคะแนนถ้วน)", 45),
        ("หกสิบ (60)", 60),
        ("0 (ศูนย์)", 0),
        ("ศูนย์ (๐)", 0),
        ("12 คน.-", 12),
        ("๑,๐๐๐ (หนึ่งพันถ้วน)", 1000),
        ("5–", 5),
        ("-5", -5),
        ("--", None),
        ("(-)", None),
        ("/", None),
        ("............", None),
        ("- -", None),
    ],
)
def test_numbers_as_officers_and_document_models_write_them(cell, n):
    assert parse_number(cell) == n


@pytest.mark.parametrize("cell", ["1/2", "1-2", "12 หมู่", "(1) 2", ".5", "1.5", "281/340", "แปด", "หมู่ที่ 4", "8 (แปด) 9"])
def test_cells_with_two_numbers_or_none_are_errors(cell):
    with pytest.raises(ValueError, match="is not a number"):
        parse_number(cell)


@given(
    st.integers(0, 10**6),
    st.sampled_from(["{d} ({w})", "{d} บัตร ({w})", "{d}/ ({w}ถ้วน)", "{d}{w}", "{w} ({d})", "-{d}- ({w})"]),
)
def test_digits_and_words_of_one_cell_are_told_apart(n, cell):
    for digits in (f"{n:,}", to_thai_digits(n)):
        text = cell.format(d=digits, w=number_words(n))
        digits_part, words_part = split_number(text)
        assert parse_number(text) == parse_number(digits_part) == n and parse_number_words(words_part) == n


@pytest.mark.parametrize("a, b", [("พรรคประชาชน", "ประชาชน"), ("พรรค ภูมิใจไทย", "ภูมิใจไทย"), ('พรรค "เพื่อไทย"', "เพื่อไทย")])
def test_a_party_is_the_same_with_and_without_the_word(a, b):
    assert normalise_party(a) == normalise_party(b) != normalise_party("พรรคกล้าธรรม")


def test_the_navy_is_written_after_a_name():
    assert normalise_name("เรือโท สมมติ หนึ่ง ร.น.") == normalise_name("นายสมมติ หนึ่ง")
