"""YAML that expands, holds itself or is none: one line, before anything is made of it."""

from __future__ import annotations

import pytest
import yaml

from sweeps.errors import InputError
from sweeps.io import safe_yaml
from sweeps.io.safe_yaml import read_yaml


@pytest.mark.parametrize(
    "text",
    [
        "a: 1\nb: [x, 2.5, null, true]\n",
        "",
        "# nothing\n",
        "- &a {k: [1, 2]}\n- *a\n- {<<: *a, m: 3}\n",
        "5",
        "[[], {}]",
    ],
)
def test_plain_yaml_is_read_as_it_is(text: str) -> None:
    assert read_yaml(text, "x.yaml") == yaml.safe_load(text)
    assert read_yaml(text.encode(), "x.yaml") == yaml.safe_load(text)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("5", 1),
        ("[1, 2, 3]", 4),
        ("{a: 1, b: 2}", 5),
        ("[[1], {a: [2]}]", 7),
        ("- &a [1, 2]\n- *a\n- *a", 10),
        ("- &a {k: 1}\n- {<<: *a}", 9),
    ],
)
def test_values_are_counted_with_aliases_each_time(text: str, values: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safe_yaml, "MOST_VALUES", values)
    read_yaml(text, "x.yaml")
    monkeypatch.setattr(safe_yaml, "MOST_VALUES", values - 1)
    with pytest.raises(InputError, match=rf"^x\.yaml: holds itself, or more than {values - 1} values$"):
        read_yaml(text, "x.yaml")


def test_a_bomb_of_aliases_and_what_holds_itself_are_refused() -> None:
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))
    for text in (bomb, "&a [*a]", "&a {k: *a}", "&a {k: [1, {m: *a}]}"):
        with pytest.raises(InputError, match=r"^x\.yaml: holds itself, or more than 1000000 values$"):
            read_yaml(text, "x.yaml")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: [1,\nb: }", r"is not YAML: line 2, column 4: [^\n]+"),
        ("a: b: c", r"is not YAML: line 1, column 5: [^\n]+"),
        ("!!python/object:os.system {}", r"is not YAML: line 1, column 1: could not determine a constructor[^\n]*"),
        ("a: 2001-99-99", r"is not YAML: ValueError: [^\n]+"),
        ("--- 1\n--- 2\n", r"is not YAML: line 2, column 1: [^\n]+"),
        ("[" * 4000, r"(is nested too deep|is not YAML: [^\n]+)"),
    ],
)
def test_what_is_no_yaml_is_told_in_one_line(text: str, problem: str) -> None:
    with pytest.raises(InputError, match=rf"^x\.yaml: {problem}$"):
        read_yaml(text, "x.yaml")
