"""The experiment file: what to try, on which data, how to search, where the rows go."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sweeps.errors import InputError
from sweeps.scores import SCORES, direction_of

SHIPPED = Path(__file__).parent / "experiments"


class Strict(BaseModel):
    """A section in which unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


class Split(Strict):
    """Shares of the groups: report (by this seed alone), then select (by this seed and the trial's)."""

    seed: int = Field(0, ge=0)
    report: float = Field(0.2, gt=0, le=0.5)
    select: float = Field(0.2, gt=0, le=0.5)


class Search(Strict):
    """How configurations are proposed."""

    method: Literal["grid", "random", "tpe"] = "grid"
    trials: int | None = Field(None, ge=1)
    objectives: list[str] = ["select.prediction"]
    seed: int = Field(0, ge=0)
    batch: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _trials_needed(self) -> Search:
        if self.method != "grid" and self.trials is None:
            raise ValueError(f"`trials` is needed with method {self.method}")
        if self.method == "grid" and self.trials is not None:
            raise ValueError("`trials` has no meaning with method grid, which tries every point")
        return self


class Compute(Strict):
    """What a pack asks of the cluster."""

    cpus_per_pack: float = Field(1, gt=0)
    gpus_per_pack: float | Literal["auto"] = "auto"
    workers: int | Literal["auto"] = "auto"
    cells_per_pack: int | Literal["auto"] = "auto"
    max_failures: int = Field(3, ge=0)
    cache: str | None = None
    cache_gb: float = Field(50, gt=0)


class Side(Strict):
    """One side of a contrast: cells of an area whose configuration has these values."""

    depth: list[int] | None = None
    where: dict[str, Any] = {}


class Contrast(Strict):
    """A difference of two means of report scores, with a paired bootstrap interval over stimulus groups."""

    name: str
    area: str
    left: Side = Side()
    right: Side = Side()


class Experiment(Strict):
    """One experiment file, checked; `space` and the recordings are read by their own rooms."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    recordings: list[dict[str, Any]] = Field(min_length=1)
    probes: dict[str, Any] = {"objects": "rendered", "captions": "rendered"}
    space: dict[str, Any]
    split: Split = Split()
    search: Search = Search()
    compute: Compute = Compute()
    scores: list[str] = list(SCORES)
    contrasts: list[Contrast] = []
    storage: str | None = None


def find_experiment(name: str) -> Path:
    """The path of an experiment file, or of a shipped one by its bare name; InputError if there is none."""
    path = Path(name)
    if path.is_file():
        return path
    shipped = {entry.stem: entry for entry in sorted(SHIPPED.glob("*.yaml"))}
    if name in shipped:
        return shipped[name]
    raise InputError("no such file, and no shipped experiment of that name", key=name, allowed=shipped)


def read_experiment(path: Path) -> Experiment:
    """The experiment in a YAML file; every problem is an InputError naming file, key, value and what is allowed."""
    try:
        raw = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read: {error}", file=str(path)) from None
    except yaml.YAMLError as error:
        raise InputError(f"is not YAML: {error}", file=str(path)) from None
    return parse_experiment(raw, file=str(path))


def parse_experiment(raw: Any, file: str | None = None) -> Experiment:
    """The experiment in a mapping, checked."""
    if not isinstance(raw, dict):
        raise InputError("must be a mapping with name, recordings and space", file=file)
    try:
        experiment = Experiment.model_validate(raw)
    except ValidationError as error:
        raise from_validation(error, Experiment, file) from None
    _check_scores(experiment, file)
    return experiment


def from_validation(error: ValidationError, model: type[BaseModel], file: str | None, prefix: str = "") -> InputError:
    """The first problem of a pydantic error as an InputError in our words."""
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    key = prefix + ".".join(path)
    if first["type"] == "extra_forbidden":
        fields = _fields_at(model, path[:-1])
        near = difflib.get_close_matches(path[-1], fields, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        return InputError(f"unknown key{hint}; allowed: {', '.join(fields)}", file=file, key=key)
    if first["type"] == "missing":
        return InputError("is missing", file=file, key=key)
    message = first["msg"].removeprefix("Value error, ")
    return InputError(message[0].lower() + message[1:], file=file, key=key or None, value=first.get("input", ...))


def _fields_at(model: type[BaseModel], path: list[str]) -> list[str]:
    for part in path:
        field = model.model_fields.get(part)
        inner = field.annotation if field else None
        if inner is None:
            continue
        inside = [inner, *getattr(inner, "__args__", ())]
        model = next((entry for entry in inside if isinstance(entry, type) and issubclass(entry, BaseModel)), model)
    return list(model.model_fields)


def _check_scores(experiment: Experiment, file: str | None) -> None:
    for name in experiment.scores:
        if name not in SCORES:
            raise InputError("unknown score", file=file, key="scores", value=name, allowed=SCORES)
    for objective in experiment.search.objectives:
        if objective.startswith("score."):
            raise InputError(
                "report scores never drive a search: use its select. twin",
                file=file,
                key="search.objectives",
                value=objective,
            )
        columns = [f"select.{column}" for name in experiment.scores for column in SCORES[name].columns]
        if objective not in columns:
            raise InputError("unknown objective", file=file, key="search.objectives", value=objective, allowed=columns)
        direction_of(objective)


def as_yaml(experiment: Experiment) -> str:
    """The experiment with every default filled in, as YAML."""
    return yaml.safe_dump(experiment.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
