"""Search asymmetry of a backbone beside that of people: six experiments, each with target and distractors exchanged."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from metrics import (
    asymmetry_index,
    bootstrap_interval,
    group_weights,
    mean_fixations,
    polarity_count,
    reaction_time,
    reaction_time_error,
    search_slope,
    slope_correlation,
)
from metrics.visual_search import CONSTANT
from sweeps.probes.search_displays import EXPERIMENTS, RenderedSearch, SearchDisplay, cell_edges, scaled_side
from sweeps.scores.score import Score
from sweeps.scores.view import CellView
from sweeps.stimuli.search_items import PIXELS_PER_DEGREE

if TYPE_CHECKING:
    from models.visual_search.attention import Raster

SCORE = Score(
    "search",
    version=2,
    columns=(
        "search_asymmetry",
        "search_asymmetry_low",
        "search_asymmetry_high",
        *(f"search_asymmetry_{number}" for number in range(1, 7)),
        "search_polarity",
        "search_slope_r",
        "search_rt_error",
        "search_never_found",
        "human_search_asymmetry",
        *(f"human_search_asymmetry_{number}" for number in range(1, 7)),
        "human_search_polarity",
    ),
    up=False,
    summary="asymmetry of visual search in six experiments, that of people beside it",
    seconds=40.0,
    probe="search",
    absent="a trained core, a twin of features that come without pictures and a network whose maps are one pixel do "
    "not search; nor are displays searched whose cells are under two pixels of the attention map",
    on_request=True,
    shown={"search_asymmetry": "human_search_asymmetry", "search_polarity": "human_search_polarity"},
)

HUMAN: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "curvature": ((510, 516, 529), (565, 640, 750)),
    "lighting": ((427, 432, 472), (488, 675, 755)),
    "crossing": ((645, 780, 915), (829, 1117, 1405)),
    "corner": ((541, 583, 625), (573, 672, 771)),
    "orientation": ((415, 438, 441, 444), (432, 547, 553, 558)),
    "orientation-mixed": ((432, 568, 634, 707), (526, 832, 1084, 1326)),
}
"""Mean reaction times of people in ms by set size, of the easier and of the harder condition.

As listed in the code of Gupta et al. 2021, read off plots or computed from published lines: Wolfe 1992 (curvature and
orientation), Kleffner and Ramachandran 1992 (lighting), Wolfe and DiMase 2003 (crossing, corner); rounded. No spread
over people is known, so there is no ceiling.
"""

SHARPENINGS: dict[str, tuple[tuple[int, float], tuple[int, float]]] = {
    "curvature": ((3, 1), (5, 3)),
    "lighting": ((3, 0), (5, 1)),
    "crossing": ((5, 3), (7, 5)),
    "corner": ((5, 3), (7, 5)),
    "orientation": ((3, 1), (5, 3)),
    "orientation-mixed": ((3, 1), (5, 3)),
}
"""Centre and surround of the difference of Gaussians (size, sigma), in pixels of the attention map; same source."""

MARGIN, WINDOW = 64, 10
"""Background shown beyond the display, and side of the oracle's window, in pixels at 30 to a degree."""

RESOLVED = 2
"""Pixels of the attention map to a cell, at least: with fewer even an item alone is missed."""

TOLERANCE = 0.01
"""How far the density of an eccentric network may be from that of the displays, relative to it."""

REPLICATES = 1000


@dataclass(frozen=True)
class SearchOutcome:
    """One condition: set size and saccades (displays,), NaN where the target was never found."""

    sizes: np.ndarray
    saccades: np.ndarray

    @property
    def times(self) -> np.ndarray:
        """Mean reaction time at every set size, in ms."""
        return np.asarray(reaction_time(mean_fixations(self.saccades, self.sizes).fixations))

    @property
    def slope(self) -> float:
        """Search slope in ms per item."""
        return search_slope(np.unique(self.sizes), self.times)

    def resampled(self, seed: int) -> np.ndarray:
        """Slopes (replicates,) after displays of every set size were drawn with replacement."""
        sizes = np.unique(self.sizes)
        counts = np.where(np.isnan(self.saccades), self.sizes, self.saccades)
        means = np.empty((REPLICATES, len(sizes)))
        for column, size in enumerate(sizes):
            own = counts[self.sizes == size]
            drawn = np.asarray(group_weights(np.arange(len(own)), REPLICATES, seed + column))
            means[:, column] = drawn @ own / len(own)
        return slopes_of(sizes, np.asarray(reaction_time(means)))


def slopes_of(sizes: np.ndarray, times: np.ndarray) -> np.ndarray:
    """`search_slope` of every row of mean times (replicates, sizes)."""
    x = sizes - sizes.mean()
    slopes = (times - times.mean(axis=1, keepdims=True)) @ x / (x @ x)
    return np.where(np.ptp(times, axis=1) <= CONSTANT * times.max(axis=1), 0.0, slopes)


SearchOutcomes = Mapping[str, tuple[SearchOutcome, SearchOutcome]]


def compute(view: CellView) -> dict[str, float]:
    """Asymmetry of the backbone's search in the probe's displays, and its agreement with the times of people.

    The frozen backbone guides saccades through every display (models.visual_search.saccades): its features of the
    target, as kernels over those of the display, decide where to look next.
    `search_asymmetry` is the mean over the probe's experiments of (H - E) / (H + E), H and E the slopes of the
    conditions harder and easier for people; `_low` and `_high` bound its 95 % interval over displays. `search_polarity`
    counts the experiments with the human sign. `search_slope_r` and `search_rt_error` (ms) compare slopes and times
    with those of people; `search_never_found` counts displays. Columns with `human_` are the same of people. A display
    whose target was never found counts as many saccades as it has items. Neither readout, depth nor recording enters:
    cells that share a backbone have the same value, on both splits. NaN for trained cores, for networks whose maps are
    a single pixel, where a cell of any display is under two pixels of the attention map, and for experiments that the
    probe does not have. An attention pixel is 16 pixels of the display, or what the network's maps are coarser than
    that, and does not shrink with the probe's `scale`, which for all experiments must so be 0.65 or more. A
    RuntimeWarning tells where an eccentric network's `pixels_per_degree` are not those of the displays, 30 times
    `scale`.
    """
    probe = view.probes.get("search")
    if probe is None or view.network is None or not isinstance(probe.source, RenderedSearch):
        return SCORE.unavailable()
    key = ["search", SCORE.version, view.backbone_key, probe.fingerprint]
    source, network = probe.source, view.network
    outcomes = view.remember(tuple(key), lambda: _once(view, key, network, source))
    return SCORE.unavailable() | (compared(outcomes) if outcomes else {})


def _once(view: CellView, key: list[Any], make: Callable[[], Any], source: RenderedSearch) -> SearchOutcomes:
    """The outcomes of a backbone, searched or read from this node's disk."""

    def compute() -> dict[str, np.ndarray]:
        network = make()
        density = np.array(getattr(network, "pixels_per_degree", None) or np.nan)
        return {"density": density, **_as_arrays(searched(network, source))}

    arrays = view.keep(key, compute)
    outcomes = _as_outcomes(arrays, source)
    if outcomes:
        _compare_density(float(arrays["density"]), source.scale)
    return outcomes


def _as_arrays(outcomes: SearchOutcomes) -> dict[str, np.ndarray]:
    return {
        f"{name}/{side}/{what}": values
        for name, pair in outcomes.items()
        for side, one in enumerate(pair)
        for what, values in (("sizes", one.sizes), ("saccades", one.saccades))
    }


def _as_outcomes(arrays: Mapping[str, np.ndarray], source: RenderedSearch) -> SearchOutcomes:
    """The inverse of `_as_arrays`."""
    done = [name for name in source.experiments if f"{name}/0/sizes" in arrays]
    pairs = {
        name: [[arrays[f"{name}/{side}/{what}"] for what in ("sizes", "saccades")] for side in (0, 1)] for name in done
    }
    return {name: (SearchOutcome(*easy), SearchOutcome(*hard)) for name, (easy, hard) in pairs.items()}


def searched(network: Any, source: RenderedSearch) -> dict[str, tuple[SearchOutcome, SearchOutcome]]:
    """How a frozen network searches the displays of a probe: the easier and the harder condition by experiment.

    Empty where it cannot: no maps, or a cell of any display under two pixels of the attention map.
    """
    import torch

    from models.visual_search.attention import attention_raster, search_blocks

    with torch.inference_mode():
        blocks = search_blocks(network)
        raster = attention_raster(network, blocks)
    if raster is None or narrowest_cell(source) < RESOLVED * raster.pixel:
        return {}
    plans = list(source.plans())
    outcomes = {}
    for name in source.experiments:
        own = [plan for plan in plans if plan.experiment == name]
        pair = [
            _outcome(network, blocks, raster, [plan for plan in own if plan.condition == condition.name])
            for condition in EXPERIMENTS[name].conditions
        ]
        outcomes[name] = (pair[0], pair[1])
    return outcomes


def narrowest_cell(source: RenderedSearch) -> int:
    """Pixels of the narrowest cell of all displays of a probe."""
    grids = [cell_edges(scaled_side(name, source.scale), EXPERIMENTS[name].grid) for name in source.experiments]
    return int(min(np.diff(edges).min() for edges in grids))


def _compare_density(density: float, scale: float) -> None:
    """Warn where an eccentric network takes the displays to be nearer or farther than they are; NaN: it is none."""
    shown = PIXELS_PER_DEGREE * scale
    if abs(density - shown) > TOLERANCE * shown:
        mismatch = (
            f"the displays have {shown:g} pixels per degree, the eccentric backbone that searches them {density:g}"
        )
        warnings.warn(f"{mismatch}: its windows grow at other angles than meant", RuntimeWarning, stacklevel=3)


def _outcome(network: Any, blocks: Sequence[int], raster: Raster, plans: list[SearchDisplay]) -> SearchOutcome:
    import torch

    from models.visual_search.attention import Sharpening, Surround, TargetAttention, device_of
    from models.visual_search.saccades import Task
    from models.visual_search.saccades import search as look_for

    experiment, scale = EXPERIMENTS[plans[0].experiment], plans[0].scale
    device = device_of(network)
    targets = {(plan.items[0].name, plan.items[0].turn): plan.patch(plan.items[0]) for plan in plans}
    kind = [list(targets).index((plan.items[0].name, plan.items[0].turn)) for plan in plans]
    edges = cell_edges(plans[0].side, experiment.grid)
    task = Task(edges, experiment.ground / 255, round(MARGIN * scale), max(1, round(WINDOW * scale)))
    with torch.inference_mode():
        attention = TargetAttention(
            lambda pictures: network.forward_blocks(pictures, blocks),
            _as_pictures(list(targets.values()), device),
            kind,
            Sharpening(*SHARPENINGS[plans[0].experiment]),
            surround=Surround(raster.whole, task.ground),
        )
        displays = _as_pictures([plan.image() for plan in plans], device)
        paths = look_for(attention, displays, [plan.target_cell for plan in plans], task)
    return SearchOutcome(np.array([plan.set_size for plan in plans]), paths.saccades.double().numpy())


def _as_pictures(grey: list[np.ndarray], device: Any) -> Any:
    """Grey uint8 pictures as float32 (n, 3, h, w) in [0, 1]."""
    import torch

    return torch.from_numpy(np.stack(grey)).to(device).float().div_(255)[:, None].repeat(1, 3, 1, 1)


def compared(outcomes: SearchOutcomes) -> dict[str, float]:
    """Columns of the score for the experiments that were done, the times of people beside them."""
    ours = {name: (pair[0].slope, pair[1].slope) for name, pair in outcomes.items()}
    theirs = {name: human_slopes(name) for name in outcomes}
    times = [
        (one.times, people) for name, pair in outcomes.items() for one, people in zip(pair, HUMAN[name], strict=True)
    ]
    low, high = bootstrap_interval(_drawn_asymmetries(outcomes))
    return {
        "search_asymmetry_low": low,
        "search_asymmetry_high": high,
        "search_slope_r": slope_correlation(*(np.ravel(list(slopes.values())) for slopes in (ours, theirs))),
        "search_rt_error": reaction_time_error(*map(np.concatenate, zip(*times, strict=True))).milliseconds,
        "search_never_found": float(sum(np.isnan(one.saccades).sum() for pair in outcomes.values() for one in pair)),
        **_asymmetries("search", ours),
        **_asymmetries("human_search", theirs),
    }


def human_slopes(experiment: str) -> tuple[float, float]:
    """Slopes of people in ms per item, easier condition first."""
    sizes = np.array(EXPERIMENTS[experiment].set_sizes)
    easy, hard = HUMAN[experiment]
    return search_slope(sizes, np.array(easy)), search_slope(sizes, np.array(hard))


def _asymmetries(prefix: str, slopes: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """Asymmetry by experiment and on average, and how many have the human sign."""
    single = {name: asymmetry_index(hard, easy) for name, (easy, hard) in slopes.items()}
    easy, hard = (np.array([pair[side] for pair in slopes.values()]) for side in (0, 1))
    numbered = {f"{prefix}_asymmetry_{number}": single.get(name, np.nan) for number, name in enumerate(EXPERIMENTS, 1)}
    return {
        f"{prefix}_asymmetry": float(np.mean(list(single.values()))),
        f"{prefix}_polarity": float(polarity_count(hard, easy).human),
        **numbered,
    }


def _drawn_asymmetries(outcomes: SearchOutcomes) -> np.ndarray:
    """Replicates of the mean asymmetry, displays drawn anew within every condition and set size."""
    asymmetries = []
    for index, (easy, hard) in enumerate(outcomes.values()):
        seeds = (100 * index, 100 * index + 50)
        pairs = zip(hard.resampled(seeds[1]), easy.resampled(seeds[0]), strict=True)
        asymmetries.append([asymmetry_index(above, below) for above, below in pairs])
    return np.mean(asymmetries, axis=0)
