from pathlib import Path
from typing import Any

from inline import plan_of, run_inline, trials_of


def test_a_grid_runs_to_its_end_and_a_second_run_does_nothing(experiment: dict[str, Any], tmp_path: Path) -> None:
    plan = plan_of(experiment, tmp_path)
    first = run_inline(plan)
    assert (first.progress.trials, first.progress.done, first.progress.executed) == (18, 18, 12)
    assert len(trials_of(plan)) == 18
    again = run_inline(plan_of(experiment, tmp_path))
    assert (again.progress.known, again.progress.done, again.progress.executed) == (18, 0, 0)
