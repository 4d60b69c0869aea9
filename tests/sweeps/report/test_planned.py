"""Contrasts that were added after report scores existed are called post hoc."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inline import plan_of, run_inline
from rich.console import Console

from sweeps.commands.run import write_experiment
from sweeps.experiment.schema import Contrast, Experiment, Side
from sweeps.report.planned import contrast_id
from sweeps.report.terminal import show

SHALLOW = {"name": "shallow over deep", "area": "V1", "left": {"depth": [0]}, "right": {"depth": [2]}}
DEEP = {"name": "deep over shallow", "area": "V1", "left": {"depth": [2]}, "right": {"depth": [0]}}


def labels(experiment: dict[str, Any], folder: Path, contrasts: list[dict[str, Any]], **more: Any) -> dict[str, str]:
    """Run with these contrasts in the same storage; what `show` says of each, by the beginning of its name."""
    plan = plan_of({**experiment, "scores": ["prediction"], "contrasts": contrasts, **more}, folder)
    run_inline(plan)
    write_experiment(plan)
    text = io.StringIO()
    show(plan.storage, Console(file=text, width=160, highlight=False))
    names = ("shallow over", "deep over", "early over")
    lines = [line for line in text.getvalue().splitlines() if line.startswith(names)]
    words = ("(post hoc)", "(order unknown)")
    return {line.split(" over ")[0].strip(): next((w for w in words if w in line), "") for line in lines}


def test_what_was_there_before_the_first_scores_is_planned(experiment: dict[str, Any], tmp_path: Path) -> None:
    assert labels(experiment, tmp_path, [SHALLOW]) == {"shallow": ""}
    assert labels(experiment, tmp_path, [SHALLOW, DEEP]) == {"shallow": "", "deep": "(post hoc)"}
    renamed = {**SHALLOW, "name": "early over late"}
    changed = {**SHALLOW, "right": {"depth": [1]}}
    assert labels(experiment, tmp_path, [renamed]) == {"early": ""}  # the same under another name
    assert labels(experiment, tmp_path, [changed]) == {"shallow": "(post hoc)"}  # another under the same name
    other = {**experiment, "split": {"seed": 3}}  # the same data under another split were seen, too
    assert labels(other, tmp_path, [DEEP, {**SHALLOW, "area": "V4"}]) == {"deep": "(post hoc)", "shallow": "(post hoc)"}


def test_of_rows_older_than_the_log_it_is_not_known(experiment: dict[str, Any], tmp_path: Path) -> None:
    labels(experiment, tmp_path, [SHALLOW])
    shutil.rmtree(tmp_path / "results" / "contrasts")
    expected = {"shallow": "(order unknown)", "deep": "(post hoc)"}
    assert labels(experiment, tmp_path, [SHALLOW, DEEP]) == expected


def test_other_data_in_the_same_storage_do_not_make_a_contrast_post_hoc(
    experiment: dict[str, Any], tmp_path: Path, make_recording: Any
) -> None:
    labels(experiment, tmp_path, [])
    folder = make_recording(tmp_path / "other" / "large", seed=9)
    recordings = [{"format": "folder", "path": str(folder), "image": {"size": 32}}]
    assert labels({**experiment, "recordings": recordings}, tmp_path, [SHALLOW]) == {"shallow": ""}


sides = st.builds(
    Side,
    depth=st.none() | st.lists(st.integers(0, 3), min_size=1, max_size=2),
    map=st.none() | st.sampled_from(["one", "two"]),
)
contrasts = st.builds(
    Contrast, name=st.text("ab", min_size=1), area=st.sampled_from(["V1", "V4"]), left=sides, right=sides
)


@settings(max_examples=80, deadline=None)
@given(contrasts, contrasts, st.booleans())
def test_identity_is_what_is_compared(one: Contrast, two: Contrast, moved: bool) -> None:
    def within(depth: int) -> Experiment:
        maps = {"maps": {"one": {"V1": depth, "V4": 1}, "two": {"V1": 0, "V4": 1}}}
        return Experiment(name="a", recordings=[{}], space={"depth": maps})

    same = one.model_dump(exclude={"name"}) == two.model_dump(exclude={"name"})
    assert (contrast_id(within(0), one) == contrast_id(within(0), two)) == same
    uses = "one" in (one.left.map, one.right.map)
    assert (contrast_id(within(0), one) == contrast_id(within(1), one)) != uses


@pytest.mark.parametrize("maps", [None, "all", {"shared": "all"}])
def test_spaces_without_maps_have_contrasts_too(maps: Any) -> None:
    experiment = Experiment(name="a", recordings=[{}], space={"depth": maps})
    assert contrast_id(experiment, Contrast(name="x", area="V1"))
