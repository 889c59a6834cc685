"""Every text of an interface exists in both languages"""

import re

import pytest

from vote_experiments.html.translations import LANGUAGES, Words, text_groups, text_problems, texts

THAI = re.compile(r"[\u0e00-\u0e7f]")


@pytest.mark.parametrize("group", text_groups())
def test_every_text_has_both_languages_and_the_same_placeholders(group):
    assert text_problems(texts(group)) == []


@pytest.mark.parametrize("group", text_groups())
def test_english_has_no_thai_and_most_thai_texts_are_thai(group):
    its = texts(group)
    assert [k for k, t in its.items() if THAI.search(t["en"])] == []
    told = [k for k, t in its.items() if re.search("[A-Za-z]{4}", re.sub(r"\{.*?\}", "", t["en"]))]
    assert sum(bool(THAI.search(its[k]["th"])) for k in told) >= 0.9 * len(told)


@pytest.mark.parametrize("group", text_groups())
def test_placeholders_are_names_that_can_be_filled_in(group):
    for language in LANGUAGES:
        say = Words(group, language)
        for key, its in texts(group).items():
            names = re.findall(r"\{(.*?)\}", its[language])
            assert all(n.isidentifier() for n in names), (key, names)
            assert "{" not in say(key, **dict.fromkeys(names, "1"))


def test_values_in_html_are_escaped():
    said = Words("common").html("error", kind="E", message="<script>alert(1)</script>")
    assert "<script" not in said and "&lt;script&gt;" in said


def test_unknown_group_language_and_key_say_what_there_is():
    with pytest.raises(ValueError, match="no group of texts is called 'nowhere'; there are common"):
        Words("nowhere")
    with pytest.raises(ValueError, match="language='de' must be one of 'en', 'th'"):
        Words("common", "de")
    with pytest.raises(KeyError, match="did you mean 'dataset'"):
        Words("common")("datset")
