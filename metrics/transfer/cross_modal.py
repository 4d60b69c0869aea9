"""How well an encoding model fitted in one modality predicts responses to another, through captioned pictures.

After the transfer of encoding models between language and vision (Tang et al. 2023). Its full text and its
numbers could not be read, so this is a reference design, not a reproduction. Read: linear models with an L2
penalty, applied to the other modality's features, one correlation per voxel. From others' accounts: alignment by
regression on captioned pictures, four delays. Recalled but not verified, so choices: scores by leave-one-run-out,
blocks of 10 samples, the false discovery rate. Ours: everything else, the shuffled pairs and the ratio included.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from metrics._arrays import Array, Floats, like, mean_of_finite, to_complete_matrix, to_float, to_labels
from metrics.inference.multiple_comparisons import benjamini_hochberg
from metrics.inference.permutation import block_grids, block_permutation_p
from metrics.prediction.accuracy import pearson
from metrics.transfer.alignment import PENALTIES, Alignment
from metrics.transfer.encoding import Stream, centred, fit, inverse, predict_left_out, prepare

DIRECTIONS = ("language_to_language", "vision_to_vision", "language_to_vision", "vision_to_language")
"""Where a model is trained, and where it is tested."""


@dataclass(frozen=True)
class Modality:
    """Features of one modality's stimuli and the responses to them, in time order, with their runs.

    Shapes: features (times, features), responses (times, units), runs (times,) labels, ceiling (units,), such as
    ``noise_ceiling``, or None where nothing was repeated.
    """

    features: Array
    responses: Array
    runs: Array
    ceiling: Array | None = None


@dataclass(frozen=True)
class CrossModalTransfer:
    """Signed correlations per unit for training in one modality and testing in another, and their controls.

    ``p`` and ``adjusted`` (false discovery rate over units) are keyed by ``DIRECTIONS``, ``ceiling`` by modality.
    ratio_a_to_b = a_to_b / b_to_b where b_to_b is significant at ``level``, NaN elsewhere; null_a_to_b is the mean
    of a_to_b under shuffled pairs. Every array is (units,).
    """

    language_to_language: Array
    vision_to_vision: Array
    language_to_vision: Array
    vision_to_language: Array
    ratio_language_to_vision: Array
    ratio_vision_to_language: Array
    null_language_to_vision: Array
    null_vision_to_language: Array
    p: dict[str, Array]
    adjusted: dict[str, Array]
    ceiling: dict[str, Array]
    level: float

    def significant(self, direction: str) -> NDArray[np.bool_]:
        """Units whose adjusted p in one of ``DIRECTIONS`` is at most ``level``, (units,); NaN is not."""
        return to_float(self.adjusted[direction]) <= self.level

    def by_area(self, areas: Array) -> dict[Any, dict[str, float]]:
        """Means of the signed values and ratios over the units of each area, with the counts behind them.

        Shapes: areas (units,) labels -> per area: each direction, ratio and null (mean without NaN units; NaN if
        none is left), ``<name>_units`` (units in that mean), ``<direction>_significant`` (units).
        """
        labels = to_labels(areas, "areas")
        if len(labels) != len(self.language_to_language):
            raise ValueError(f"areas must label {len(self.language_to_language)} units; got {len(labels)} labels")
        return {area: self._summary(labels == area) for area in np.unique(labels).tolist()}

    def _summary(self, units: NDArray[np.bool_]) -> dict[str, float]:
        """One row of ``by_area``."""
        row: dict[str, float] = {}
        for name in (*DIRECTIONS, *(f"{kind}_{one}" for kind in ("ratio", "null") for one in DIRECTIONS[2:])):
            values = to_float(getattr(self, name))[units]
            row[name], row[f"{name}_units"] = mean_of_finite(values), float(np.isfinite(values).sum())
        for name in DIRECTIONS:
            row[f"{name}_significant"] = float(self.significant(name)[units].sum())
        return row


def _pairs(captioned: tuple[Array, Array] | None, streams: dict[str, Stream]) -> dict[str, Floats] | None:
    """The checked features of captions and of the pictures they describe, by modality."""
    if captioned is None:
        return None
    first, second = (to_complete_matrix(part, "captioned features") for part in captioned)
    widths = tuple(one.features.shape[1] for one in streams.values())
    if len(first) != len(second) or (first.shape[1], second.shape[1]) != widths:
        raise ValueError(
            f"captioned must hold language and vision features of the same pairs, (pairs, {widths[0]}) and "
            f"(pairs, {widths[1]}); got {first.shape} and {second.shape}"
        )
    return {"language": first, "vision": second}


def _check(alignment: str, pairs: object, streams: dict[str, Stream]) -> None:
    """A ValueError unless the two modalities fit together under this alignment."""
    widths = [one.features.shape[1] for one in streams.values()]
    units = [one.responses.shape[1] for one in streams.values()]
    if alignment not in ("ridge", "shuffled", "identity"):
        raise ValueError(f"alignment must be ridge, shuffled or identity; got {alignment!r}")
    if units[0] != units[1]:
        raise ValueError(f"both modalities must be recorded from the same units; got {units[0]} and {units[1]}")
    if alignment == "identity" and widths[0] != widths[1]:
        raise ValueError(f"alignment by identity needs equal numbers of features; got {widths[0]} and {widths[1]}")
    if alignment != "identity" and pairs is None:
        raise ValueError(f"alignment {alignment!r} is fitted on captioned pairs; got captioned=None")


def _ceiling(modality: Modality, units: int, name: str) -> Floats:
    """The given ceiling, or NaN."""
    ceiling = np.full(units, np.nan) if modality.ceiling is None else to_float(modality.ceiling)
    if ceiling.shape != (units,):
        raise ValueError(f"ceiling of {name} must be one value for each of {units} units; got {ceiling.shape}")
    return ceiling


@dataclass(frozen=True)
class _Bridge:
    """How features of one modality get into the space of the other."""

    alignment: str
    pairs: dict[str, Floats] | None
    penalty: float | None
    shuffles: int
    seed: int

    def _orders(self, pairs: int) -> list[NDArray[np.intp]]:
        """The order of the pairs that is scored (none for identity), then the shuffled ones of the null."""
        rng = np.random.default_rng(self.seed)
        shuffled = [rng.permutation(pairs) for _ in range(self.shuffles)]
        scored = {"ridge": [np.arange(pairs)], "shuffled": [rng.permutation(pairs)], "identity": []}
        return [*scored[self.alignment], *shuffled]

    def carry(self, features: Floats, tested: str, trained: str) -> list[Floats]:
        """``features`` of the tested modality in the space of the trained one: to be scored, then for the null."""
        carried = [features] if self.alignment == "identity" else []
        if self.pairs is None:
            return carried
        source, target = self.pairs[tested], self.pairs[trained]
        mean, deviation = source.mean(axis=0), centred(source, np.zeros(len(source))).std(axis=0)
        ridge, rows = Alignment.fit((source - mean) * inverse(deviation)), (features - mean) * inverse(deviation)
        orders = self._orders(len(source))
        return carried + [np.asarray(ridge.predict(target[order], rows, self.penalty)) for order in orders]


@dataclass(frozen=True)
class _Score:
    """One direction: correlations, their p, adjusted p, and the mean correlations of the null, all (units,)."""

    r: Floats
    p: Floats
    adjusted: Floats
    null: Floats


@dataclass(frozen=True)
class _Chance:
    """How p is found: the arguments of ``block_permutation_p``."""

    block: int
    permutations: int
    seed: int

    def score(self, predicted: list[Floats], tested: Stream, widen: float) -> _Score:
        """The first prediction of the tested responses, with the others as its null."""
        r, *null = (pearson(one, tested.responses) for one in predicted)
        shuffled = (self.block, self.permutations, tested.runs, self.seed, widen)
        p = np.asarray(block_permutation_p(predicted[0], tested.responses, *shuffled))
        mean = np.mean(null, axis=0) if null else np.full_like(r, np.nan)
        return _Score(r, p, np.asarray(benjamini_hochberg(p)), mean)


def _ratio(transferred: _Score, within: _Score, level: float) -> Floats:
    """Transferred over within-modality correlation where the latter is significant, else NaN."""
    significant = within.adjusted <= level
    return np.divide(transferred.r, within.r, out=np.full_like(within.r, np.nan), where=significant)


def _result(
    scores: dict[str, _Score], ceilings: dict[str, Floats], level: float, inputs: list[Array]
) -> CrossModalTransfer:
    """The scores of all directions in the caller's kind of array."""
    forth, back = (scores[name] for name in DIRECTIONS[2:])
    return CrossModalTransfer(
        language_to_language=like(scores["language_to_language"].r, *inputs),
        vision_to_vision=like(scores["vision_to_vision"].r, *inputs),
        language_to_vision=like(forth.r, *inputs),
        vision_to_language=like(back.r, *inputs),
        ratio_language_to_vision=like(_ratio(forth, scores["vision_to_vision"], level), *inputs),
        ratio_vision_to_language=like(_ratio(back, scores["language_to_language"], level), *inputs),
        null_language_to_vision=like(forth.null, *inputs),
        null_vision_to_language=like(back.null, *inputs),
        p={name: like(one.p, *inputs) for name, one in scores.items()},
        adjusted={name: like(one.adjusted, *inputs) for name, one in scores.items()},
        ceiling={name: like(one, *inputs) for name, one in ceilings.items()},
        level=level,
    )


def cross_modal_transfer(
    language: Modality,
    vision: Modality,
    captioned: tuple[Array, Array] | None = None,
    alignment: Literal["ridge", "shuffled", "identity"] = "ridge",
    delays: Sequence[int] = (0,),
    penalties: tuple[float, ...] = PENALTIES,
    alignment_penalty: float | None = None,
    block: int = 10,
    permutations: int = 1000,
    level: float = 0.05,
    shuffles: int = 3,
    seed: int = 0,
) -> CrossModalTransfer:
    """Score encoding models within and between two modalities, unit by unit.

    r[a -> b] = corr_t(X_b W_a, Y_b): W_a the weights of a ridge model of responses to a, X_b the features of b
    in the space of a. r[a -> a]: every run predicted by a model of a's other runs. r[a -> b]: a model of all
    runs of a; features of b pass a ridge regression from b's to a's features of captioned pictures first
    (``ridge``), the same with shuffled pairs (``shuffled``), or are taken as they are (``identity``).
    Order of steps: align, centre within runs, divide by the deviation in the training runs of a, delay within
    runs, centre within runs. Responses are z-scored and correlations pooled over runs; each unit's penalty
    minimises the squared error of leave-one-run-out within the training runs; it is relative, as in
    ``Alignment``. The alignment z-scores its source by the pairs, its penalty is by leave-one-out, or
    ``alignment_penalty``. p: ``block_permutation_p``, one-sided, its null widened by sqrt 2 for a -> a, adjusted
    by ``benjamini_hochberg`` over units. It asks whether the prediction follows the responses in time, not whether
    the pairs matter: shuffled pairs carry real features in wrong mixtures, so compare with the null as well.
    Shapes: see ``Modality`` and ``CrossModalTransfer``; captioned ((pairs, language features), (pairs, vision
    features)); delays and block in samples. Independent pictures: runs are labels of folds, of some ten
    pictures or more, in any order; delays=(0,), block=1.
    Edge rule: a unit with a NaN in one modality is NaN wherever that modality is used; a unit without spread
    or with a constant prediction is NaN; null is NaN without captioned. Fewer than 3 runs (2 with a single
    penalty), runs below 3 samples, differing units and a missing alignment are ValueErrors.
    Source: after Tang et al. 2023; this module's first lines say what is from there and what is a choice.

    >>> rng = np.random.default_rng(0)
    >>> heard, seen, mixing = rng.normal(size=(90, 3)), rng.normal(size=(90, 3)), rng.normal(size=(3, 5))
    >>> folds, weights, pairs = np.arange(90) % 3, rng.normal(size=(3, 2)), rng.normal(size=(40, 3))
    >>> result = cross_modal_transfer(
    ...     Modality(heard, heard @ weights, folds), Modality(seen @ mixing, seen @ weights, folds),
    ...     captioned=(pairs, pairs @ mixing), block=1, permutations=99)
    >>> bool((result.language_to_vision > 0.95).all()), result.by_area(["V4", "V4"])["V4"]["vision_to_language_units"]
    (True, 2.0)
    """
    given, needed = {"language": language, "vision": vision}, 3 if len(penalties) > 1 else 2
    streams = {name: prepare(one.features, one.responses, one.runs, name, needed) for name, one in given.items()}
    ceilings = {name: _ceiling(one, streams[name].responses.shape[1], name) for name, one in given.items()}
    pairs = _pairs(captioned, streams)
    _check(alignment, pairs, streams)
    for stream in streams.values():
        block_grids(stream.runs, len(stream.runs), block)
    bridge, chance = _Bridge(alignment, pairs, alignment_penalty, shuffles, seed), _Chance(block, permutations, seed)
    scores = {}
    for name, stream in streams.items():
        predicted = predict_left_out(stream, delays, penalties)
        scores[f"{name}_to_{name}"] = chance.score([predicted], stream, widen=2**0.5)
    for trained, tested in (("language", "vision"), ("vision", "language")):
        stream, runs = streams[trained], streams[tested].runs
        model = fit(stream, np.ones(len(stream.runs), dtype=bool), delays, penalties)
        carried = bridge.carry(streams[tested].features, tested, trained)
        crossed = [model.predict(one, runs) for one in carried]
        scores[f"{trained}_to_{tested}"] = chance.score(crossed, streams[tested], widen=1.0)
    return _result(scores, ceilings, level, [part for one in given.values() for part in (one.features, one.responses)])
