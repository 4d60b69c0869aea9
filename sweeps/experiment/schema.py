"""The experiment file: what to try, on which data, how to search, where the rows go."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from annotated_types import Ge
from pydantic import BaseModel, Field, ValidationError, field_validator

from models.registry import UndeclaredName, UnknownName
from sweeps.errors import InputError
from sweeps.experiment.guidance import Guidance
from sweeps.hashing import canonical
from sweeps.io.guards.regular_files import refuse_special
from sweeps.io.pointers import refuse_dangling, refuse_pointer
from sweeps.io.safe_yaml import read_yaml
from sweeps.io.strict_model import Strict, from_validation
from sweeps.recordings.split_settings import Split
from sweeps.scores import SCORES, in_order, objectives, standard_scores

SHIPPED = Path(__file__).resolve().parents[1] / "experiments"


class Halving(Strict):
    """Asynchronous successive halving of fits by gradient descent, on the select split.

    After `first` epochs, `first * factor`, `first * factor^2`, ... a fit goes on if its correlation is among the best
    1 / `factor` of those that have come so far.
    """

    first: int = Field(ge=1)
    factor: int = Field(3, ge=2)


class Search(Strict):
    """How configurations are proposed; the method, and what it takes, is checked by `sweeps.search.methods`."""

    method: str = "grid"
    trials: int | None = Field(None, ge=1)
    objectives: list[str] = Field(["select.prediction"], min_length=1)
    seed: int = Field(0, ge=0)
    batch: int | None = Field(None, ge=1)
    halving: Halving | None = None


class Compute(Strict):
    """What a pack asks of the cluster."""

    cpus_per_pack: float = Field(1, gt=0)
    gpus_per_pack: Annotated[float, Ge(0)] | Literal["auto"] = "auto"
    workers: Annotated[int, Ge(1)] | Literal["auto"] = "auto"
    cells_per_pack: Annotated[int, Ge(1)] | Literal["auto"] = "auto"
    max_failures: int = Field(3, ge=0)
    limit_minutes: float | None = Field(None, gt=0)
    storage_patience_minutes: float = Field(60, ge=0)
    cache: str | None = None
    cache_gb: float = Field(50, gt=0)
    fits_gb: float = Field(5, ge=0)

    @field_validator("gpus_per_pack")
    @classmethod
    def _whole_gpus(cls, value: float | str) -> float | str:
        if isinstance(value, float) and value > 1 and not value.is_integer():
            raise ValueError("must be a whole number above 1, a share of a GPU below 1, or auto")
        return value


class Side(Strict):
    """One side of a contrast: cells of an area whose configuration has these values, and this map of `depth.maps`."""

    depth: list[int | list[int]] | None = None
    map: str | None = None
    where: dict[str, Any] = Field({})


class Contrast(Strict):
    """A difference of two means of report scores, with a paired bootstrap interval over stimulus groups."""

    name: str
    area: str
    left: Side = Side()
    right: Side = Side()


class Experiment(Strict):
    """One experiment file, checked; `space` and the recordings are read by their own rooms.

    `order` gives, for a score column that is compared with an order of areas, that order from first to last; areas of
    one rank stand in a list of their own.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    recordings: list[dict[str, Any]] = Field(min_length=1)
    probes: dict[str, Any] = Field({"objects": "rendered", "captions": "rendered"})
    space: dict[str, Any]
    split: Split = Split()
    search: Search = Search()
    compute: Compute = Compute()
    scores: list[str] = Field(default_factory=standard_scores)
    order: dict[str, list[str | list[str]]] = Field({})
    contrasts: list[Contrast] = Field([])
    guidance: Guidance | None = None
    storage: str | None = None


def find_experiment(name: str) -> Path:
    """The path of an experiment file, or of a shipped one by its bare name; InputError if there is none."""
    path = Path(name).expanduser()
    refuse_dangling(str(path), name)
    refuse_special(str(path), name)
    if path.is_file():
        return path
    shipped = {entry.stem: entry for entry in sorted(SHIPPED.glob("*.yaml"))}
    if name in shipped:
        return shipped[name]
    raise InputError("no such file, and no shipped experiment of that name", key=name, allowed=shipped)


class Loader(yaml.SafeLoader):
    """YAML as people mean it: 1e-4 is a number (YAML 1.1 reads a text), and a duplicate key is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build the mapping; a duplicate key, of which YAML would keep the last, is an error."""
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        known: set[str] = set()
        for key in keys:
            if key != "<<" and key in known:
                raise yaml.MarkedYAMLError(problem=f"duplicate key {key!r}", problem_mark=node.start_mark)
            known.add(key)
        return super().construct_mapping(node, deep)


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def read_experiment(path: Path) -> Experiment:
    """The experiment in a YAML file; every problem is an InputError naming file, key, value and what is allowed."""
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read: {error}", file=str(path)) from None
    refuse_pointer(content.encode(), str(path))
    return parse_experiment(read_yaml(content, str(path), Loader), file=str(path))


def parse_experiment(raw: Any, file: str | None = None, stored: bool = False) -> Experiment:
    """Check the experiment in a mapping; of a `stored` one the scores need not be installed here."""
    if not isinstance(raw, dict):
        raise InputError("must be a mapping with name, recordings and space", file=file)
    try:
        experiment = Experiment.model_validate(raw)
    except ValidationError as error:
        raise from_validation(error, Experiment, file) from None
    if stored:
        return experiment
    check_scores(experiment, file)
    return _with_intervals(_with_objectives(experiment))


def _with_objectives(experiment: Experiment) -> Experiment:
    """Where no objective is given: the first score taken of which more is better, by default prediction."""
    scores = [SCORES[name] for name in in_order(experiment.scores)]
    ups = [f"select.{score.columns[0]}" for score in scores if score.up]
    if "objectives" in experiment.search.model_fields_set or not ups:
        return experiment
    search = experiment.search.model_copy(update={"objectives": ups[:1]})
    search.model_fields_set.discard("objectives")  # nobody named it: a plan may drop it
    return experiment.model_copy(update={"search": search})


def _with_intervals(experiment: Experiment) -> Experiment:
    """Where there are contrasts, their intervals need the bootstrap replicates of the score `interval`."""
    if not experiment.contrasts or "interval" in experiment.scores:
        return experiment
    return experiment.model_copy(update={"scores": [*experiment.scores, "interval"]})


def check_scores(experiment: Experiment, file: str | None = None) -> None:
    """Refuse scores that nobody declares, and given objectives that they do not have. Raises InputError."""
    for name in experiment.scores:
        check_score(name, "scores", file)
    check_columns(experiment.scores, "scores", file)
    for objective in experiment.search.objectives if "objectives" in experiment.search.model_fields_set else ():
        _check_objective(experiment, objective, file)


def check_score(name: str, key: str, file: str | None = None) -> None:
    """Refuse a score that nobody declares, or a plug-in that cannot be used. Raises InputError."""
    try:
        SCORES[name]
    except UndeclaredName:
        raise InputError("unknown score", file=file, key=key, value=name, allowed=SCORES) from None
    except UnknownName as error:
        raise InputError(str(error), file=file, key=key, value=name) from None


def check_columns(names: Iterable[str], key: str, file: str | None = None) -> None:
    """Refuse scores that write the same column, also one of a score that ships here. Raises InputError."""
    owners: dict[str, str] = {}
    for name in in_order([*SCORES.builtin, *names]):
        for column in (*SCORES[name].columns, *SCORES[name].trial_columns):
            if owners.setdefault(column, name) != name:
                problem = f"writes the column {column!r}, as the score {owners[column]!r} does"
                raise InputError(problem, file=file, key=key, value=name)


def _check_objective(experiment: Experiment, objective: str, file: str | None) -> None:
    key = "search.objectives"
    if objective.startswith("score."):
        problem = "report scores never drive a search: use its select. twin"
        raise InputError(problem, file=file, key=key, value=objective)
    possible = objectives(in_order(experiment.scores))
    if objective not in possible:
        raise InputError("unknown objective", file=file, key=key, value=objective, allowed=possible)


def as_yaml(experiment: Experiment) -> str:
    """The experiment with every default filled in, as YAML."""
    return yaml.safe_dump(experiment.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def settings_text(halving: BaseModel | None) -> str:
    """Settings as rows hold them; empty without halving. A pruned row is final under the same settings alone."""
    return "" if halving is None else canonical(halving.model_dump())
