"""Where the cache lies: one folder for every process, whatever folder a process runs in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from inline import run_inline

from sweeps.commands.rescore import plan_scores
from sweeps.commands.run import write_experiment
from sweeps.errors import InputError
from sweeps.guidance.guide import plan_guidance
from sweeps.planning.plan import make_plan


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def test_a_relative_cache_is_below_the_current_folder(experiment: dict[str, Any], here: Path) -> None:
    assert make_plan(experiment, cache="mycache").context().cache == str(here / "mycache")
    assert make_plan(experiment, cache="../other").cache == str(here.parent / "other")
    stated = {**experiment, "compute": {"cache": "stated"}}
    assert make_plan(stated).cache == str(here / "stated")
    assert make_plan(stated, cache="/scratch/cache").cache == "/scratch/cache"


def test_the_home_folder_stays_that_of_each_node(experiment: dict[str, Any], here: Path) -> None:
    assert make_plan(experiment).cache == "~/.cache/cortex-sweeps"
    assert make_plan(experiment, cache="~/mine").cache == "~/mine"


@pytest.mark.parametrize("url", ["s3://lab/cache", "file:///scratch", "simplecache::s3://lab/cache", "s3:/lab/cache"])
def test_a_url_is_no_cache(experiment: dict[str, Any], here: Path, url: str) -> None:
    with pytest.raises(InputError, match=rf"--cache = '{url}': must be a local folder, not a URL"):
        make_plan(experiment, cache=url)
    with pytest.raises(InputError, match=r"compute\.cache"):
        make_plan({**experiment, "compute": {"cache": url}})


def test_later_commands_read_the_same_cache(
    experiment: dict[str, Any], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment["space"] |= {"depth": {"V1": [0], "V4": [0]}, "seed": [0]}
    plan = make_plan(experiment, storage="results", cache="mycache")
    run_inline(plan)
    write_experiment(plan)
    monkeypatch.chdir("/")
    stored = plan_scores(plan.storage, ["rsa"], "all")[0]
    given = plan_scores(plan.storage, ["rsa"], "all", cache="tmp")[0]
    assert (stored.cache, given.cache) == (str(here / "mycache"), "/tmp")
    assert any((here / "mycache").iterdir())
    with pytest.raises(InputError, match="--cache = 's3://lab/cache': must be a local folder"):
        plan_guidance(plan.storage, areas=["V1"], cache="s3://lab/cache")
