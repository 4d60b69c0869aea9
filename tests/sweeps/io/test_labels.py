"""Labels that look the same are the same; those that differ by case alone are refused."""

from __future__ import annotations

import unicodedata
from typing import Literal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.errors import InputError
from sweeps.io.labels import clean_label, clean_labels, clean_table, refuse_duplicates

PADDING = st.text(st.sampled_from(" \t\r\n\0\v\f\x85\xa0\u2003\u3000\ufeff\u200b"), max_size=5)
INNER = st.text(st.characters(codec="utf-8", categories=("L", "N", "P")), min_size=1, max_size=8)


@given(INNER, PADDING, PADDING, st.sampled_from(["NFC", "NFD"]))
def test_padding_and_form_do_not_matter(label: str, before: str, after: str, form: Literal["NFC", "NFD"]) -> None:
    """The reference: the composed form of what is neither blank nor unseen at the ends."""
    padded = before + unicodedata.normalize(form, label) + after
    assert clean_label(padded) == unicodedata.normalize("NFC", label)
    assert clean_label(clean_label(padded)) == clean_label(padded)


def test_blanks_inside_stay() -> None:
    assert clean_label("  great egret ") == "great egret"
    assert clean_label("\0 \0 ") == ""


@given(st.lists(st.sampled_from(["V1", "V1 ", "\0V1", "V4", " LM"]), min_size=1))
def test_labels_keep_their_order(labels: list[str]) -> None:
    assert clean_labels(labels, "f").tolist() == [label.strip(" \0") for label in labels]


@pytest.mark.parametrize(("one", "two"), [("V1", "v1"), ("V1 ", " v1"), ("Straße", "STRASSE"), ("é", "E\u0301")])
def test_two_labels_that_differ_by_case_are_shown(one: str, two: str) -> None:
    with pytest.raises(InputError, match="only by case") as caught:
        clean_labels(["V4", one, two], "units.csv", "area")
    line = str(caught.value)
    assert line.startswith("units.csv: area")
    assert clean_label(one) in line
    assert clean_label(two) in line


def test_a_table_says_whether_cleaning_can_matter() -> None:
    def matters(**columns: list[str]) -> bool:
        return clean_table(pd.DataFrame(columns), "f")[1]

    assert not matters(group=["a", "b"], note=[" x", "y"], file=["a ", "b"])
    assert matters(group=["a ", "b"])
    assert not matters(position=["1 ", "2"])
    assert matters(position=["left ", "right"])
    assert clean_table(pd.DataFrame({" group": ["a"]}), "f")[1]
    assert not clean_table(pd.DataFrame({" note": ["a"]}), "f")[1]


def test_files_and_captions_are_no_labels() -> None:
    table, _ = clean_table(pd.DataFrame({"file ": [" a.png"], "caption": [" a cup "], "object": [" cup"]}), "f")
    assert table.to_dict("records") == [{"file": " a.png", "caption": " a cup ", "object": "cup"}]


def test_two_columns_of_one_name_are_refused() -> None:
    with pytest.raises(InputError, match="two columns of one name"):
        clean_table(pd.DataFrame({"group": ["a"], "group ": ["b"]}), "f")


def test_an_id_that_stands_twice_is_refused() -> None:
    refuse_duplicates(np.array(["", "", "a", "b"]), "units.csv")
    with pytest.raises(InputError, match=r"unit = 'a': duplicate"):
        refuse_duplicates(np.array(["a", "b", "a"]), "units.csv", "unit")
