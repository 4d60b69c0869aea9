"""The search score: people's own numbers, planted outcomes, and a network that carries the target's mark."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from torch.nn.functional import avg_pool2d

import sweeps
from metrics import asymmetry_index, search_slope
from models.backbones import BACKBONES
from models.visual_search.attention import FINEST_ATTENTION
from sweeps.io.disk_cache import DiskCache
from sweeps.probes import Probe, open_probe
from sweeps.probes.search_displays import EXPERIMENTS, RenderedSearch
from sweeps.recordings.recording import Recording, StimulusSet
from sweeps.scores import SCORES
from sweeps.scores.view import CellView
from sweeps.scores.visual_search import (
    HUMAN,
    SearchOutcome,
    compared,
    human_slopes,
    narrowest_cell,
    searched,
    slopes_of,
)
from sweeps.scores.visual_search import compute as search

torch.set_num_threads(1)

ROUNDED = 0.007
"""The times as listed are rounded to whole milliseconds, which moves the least of their asymmetries by this much."""

# From the published reaction times before they were rounded; slopes of easier and harder condition in ms per item.
HUMAN_ASYMMETRY = [0.809, 0.701, 0.362, 0.404, 0.611, 0.500]
HUMAN_SLOPES = [(0.8, 7.6), (4.2, 23.9), (45, 96), (14, 33), (2.4, 9.9), (23.7, 71.1)]

# Mean fixations of the published network by set size, easier and harder condition, and what its authors' code makes
# of them, to the rounding of these means.
ECCNET = {
    "curvature": ((1, 1, 1), (1.17, 1.37, 1.60)),
    "lighting": ((1, 1, 1), (1, 1.40, 1.37)),
    "crossing": ((1.53, 1.86, 2.31), (2.00, 3.25, 4.31)),
    "corner": ((1.03, 1.14, 1.31), (1.75, 2.72, 4.11)),
    "orientation": ((1, 1.97, 3.63, 5.33), (1, 1, 1, 1)),
    "orientation-mixed": ((1, 1, 1.03, 1.07), (1, 1.17, 1.40, 1.60)),
}
ECCNET_ASYMMETRY = [1.0, 1.0, 0.495, 0.789, -1.0, 0.791]


def outcome(sizes: Sequence[int], means: Sequence[float], displays: int = 100) -> SearchOutcome:
    """Displays whose saccades have these means: as many of the next whole number as the fraction asks for."""
    counts = []
    for mean in means:
        above = round((mean - int(mean)) * displays)
        counts += [int(mean) + 1.0] * above + [float(int(mean))] * (displays - above)
    return SearchOutcome(np.repeat(sizes, displays), np.array(counts))


def eccnet() -> dict[str, tuple[SearchOutcome, SearchOutcome]]:
    return {
        name: (outcome(EXPERIMENTS[name].set_sizes, easy), outcome(EXPERIMENTS[name].set_sizes, hard))
        for name, (easy, hard) in ECCNET.items()
    }


def view_of(probe: Probe | None, network: Any, **others: Any) -> CellView:
    """A view of two units that recorded nothing of interest."""
    table = pd.DataFrame({"group": ["a", "b"]})
    recording = Recording(
        "planted", "print", np.array(["V1"] * 2), {"fit": StimulusSet(table, np.ones((2, 2, 1)), "k")}
    )
    held: dict[str, Any] = {
        "split": "report",
        "split_seed": 0,
        "recording": recording,
        "units": np.arange(2),
        "rows": np.arange(2),
        "predicted": np.ones((2, 2)),
        "baseline": np.zeros((2, 2)),
        "shown": {},
        "tables": {},
        "embed": lambda captions: np.zeros((len(captions), 1)),
        "cell_id": "cell",
        "seed": 1,
        "common_units": 2,
        "remember": lambda key, compute: compute(),
        "network": network,
        "backbone_key": "one",
        "probes": {} if probe is None else {"search": probe},
    }
    return CellView(**{**held, **others})


def test_people_search_with_the_published_asymmetry() -> None:
    found = [asymmetry_index(hard, easy) for easy, hard in map(human_slopes, EXPERIMENTS)]
    assert found == pytest.approx(HUMAN_ASYMMETRY, abs=ROUNDED)
    assert np.mean(found) == pytest.approx(0.564, abs=ROUNDED)
    for name, slopes in zip(EXPERIMENTS, HUMAN_SLOPES, strict=True):
        assert human_slopes(name) == pytest.approx(slopes, abs=0.1)  # the times are rounded
        assert [len(each) for each in HUMAN[name]] == [len(EXPERIMENTS[name].set_sizes)] * 2


def test_the_published_networks_fixations_give_its_published_scores() -> None:
    found = compared(eccnet())
    numbered = [found[f"search_asymmetry_{number}"] for number in range(1, 7)]
    assert numbered == pytest.approx(ECCNET_ASYMMETRY, abs=0.03)
    assert found["search_asymmetry"] == pytest.approx(0.513, abs=0.01)
    assert found["search_slope_r"] == pytest.approx(0.40, abs=0.01)
    assert (found["search_polarity"], found["human_search_polarity"]) == (5.0, 6.0)
    assert found["human_search_asymmetry"] == pytest.approx(0.564, abs=ROUNDED)
    assert [found[f"human_search_asymmetry_{n}"] for n in range(1, 7)] == pytest.approx(HUMAN_ASYMMETRY, abs=ROUNDED)
    assert found["search_never_found"] == 0
    assert found["search_asymmetry_low"] < found["search_asymmetry"] < found["search_asymmetry_high"]


def test_the_error_of_the_times_by_hand() -> None:
    """RT = 252.359 N + 376.271 at one fixation throughout is 628.63 ms."""
    sizes = EXPERIMENTS["corner"].set_sizes
    found = compared({"corner": (outcome(sizes, (1, 1, 1)), outcome(sizes, (1, 1, 1)))})
    people = np.array([541, 583, 625, 573, 672, 771])
    assert found["search_rt_error"] == pytest.approx(np.sqrt(((628.63 - people) ** 2).mean()), rel=1e-6)
    assert found["search_asymmetry"] == found["search_polarity"] == 0
    assert np.isnan(found["search_asymmetry_1"])
    assert np.isnan(found["human_search_asymmetry_1"])
    assert found["human_search_asymmetry"] == pytest.approx(0.404, abs=1e-3)


def test_a_display_never_solved_counts_as_many_saccades_as_it_has_items() -> None:
    sizes = EXPERIMENTS["corner"].set_sizes
    lost = SearchOutcome(np.repeat(sizes, 2), np.array([1, np.nan, 1, 1, 1, 1.0]))
    assert lost.times[0] == pytest.approx(252.359 * (1 + 3) / 2 + 376.271)
    found = compared({"corner": (outcome(sizes, (1, 2, 3)), lost)})
    assert found["search_never_found"] == 1


def test_replicates_are_the_slopes_of_resampled_displays() -> None:
    """Variance of a mean over displays, carried through a slope that is linear in the means."""
    sizes = (3, 6, 9)
    one = outcome(sizes, (1.5, 2.5, 4.5), displays=40)
    draws = one.resampled(seed=0)
    assert draws.mean() == pytest.approx(one.slope, abs=0.5)
    variance = sum((each / 18) ** 2 for each in (-3, 0, 3)) * (252.359**2 * 0.25 / 40)
    assert draws.std() == pytest.approx(np.sqrt(variance), rel=0.1)
    times = np.random.default_rng(0).random((20, 3)) + 600
    assert slopes_of(np.array(sizes), times) == pytest.approx([search_slope(sizes, row) for row in times])
    assert slopes_of(np.array(sizes), np.full((1, 3), 628.63)).tolist() == [0.0]


class Marked(torch.nn.Module):
    """One block at full size whose map is the picture's contrast to its corner, in one channel."""

    calls = 0

    def forward_blocks(self, images: torch.Tensor, blocks: Sequence[int]) -> list[torch.Tensor]:
        if any(blocks):
            raise ValueError("block 1 does not exist: blocks are 0 to 0")
        Marked.calls += 1
        return [(images - images[..., :1, :1]).abs().mean(dim=1, keepdim=True) for _ in blocks]


def test_a_single_item_is_found_at_once_and_networks_are_searched_once() -> None:
    """With one item on the display contrast tells where; the first set size of lighting and orientation is 1."""
    probe = open_probe(
        "search", {"rendered": {"displays": 4, "experiments": ["lighting", "orientation"], "scale": 1.0}}
    )
    assert isinstance(probe.source, RenderedSearch)
    found = searched(Marked(), probe.source)
    for name, pair in found.items():
        for each in pair:
            assert each.sizes.tolist() == np.repeat(EXPERIMENTS[name].set_sizes, 4).tolist()
            assert (each.saccades[each.sizes == 1] == 1).all()
            assert each.saccades.max() <= 16
            assert each.saccades[each.sizes == 12].mean() > 1
    held: dict[Any, Any] = {}

    def remember(key: Any, compute: Any) -> Any:
        held.setdefault(key, None)
        held[key] = held[key] or compute()
        return held[key]

    views = [view_of(probe, Marked, remember=remember, split=split) for split in ("select", "report")]
    first, calls = search(views[0]), Marked.calls
    assert set(first) == set(SCORES["search"].columns)
    np.testing.assert_equal(search(views[1]), first)
    assert Marked.calls == calls
    search(view_of(probe, Marked, remember=remember, backbone_key="two"))
    assert Marked.calls > calls
    assert first["search_asymmetry"] == pytest.approx(np.mean([first[f"search_asymmetry_{n}"] for n in (2, 5)]))


@pytest.mark.parametrize(("scale", "density"), [(1.0, 30.0), (1.0, 20.0), (0.64, 20.0)])
def test_another_process_of_the_node_reads_what_was_searched(tmp_path: Path, scale: float, density: float) -> None:
    """Also that a network cannot search (cells of 31 pixels), and that its density is not that of the displays."""

    def make() -> Marked:
        network = Marked()
        network.pixels_per_degree = density
        return network

    probe = open_probe("search", {"rendered": {"displays": 3, "experiments": ["lighting", "corner"], "scale": scale}})
    found, calls, told = [], [], []
    for _ in range(2):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found.append(search(view_of(probe, make, keep=DiskCache(tmp_path, 1e8).get)))
        calls.append(Marked.calls)
        told.append([str(each.message) for each in caught])
    np.testing.assert_equal(found[1], found[0])
    assert calls[1] == calls[0]
    assert told[0] == told[1]
    assert len(told[0]) == (scale == 1.0 and density != 30.0)
    assert np.isfinite(found[0]["search_asymmetry"]) == (scale == 1.0)
    search(view_of(probe, make, keep=DiskCache(tmp_path, 1e8).get, backbone_key="two"))
    assert Marked.calls > calls[1]


class Pooled(Marked):
    """A network without maps."""

    def forward_blocks(self, images: torch.Tensor, blocks: Sequence[int]) -> list[torch.Tensor]:
        return [found.mean(dim=(2, 3), keepdim=True) for found in super().forward_blocks(images, blocks)]


class Coarse(Marked):
    """Maps of 1/32, whose pixels are wider than half a cell of any display but those of crossing and corner."""

    def forward_blocks(self, images: torch.Tensor, blocks: Sequence[int]) -> list[torch.Tensor]:
        return [avg_pool2d(found, 32, ceil_mode=True) for found in super().forward_blocks(images, blocks)]


def lighting(scale: float, experiment: str = "lighting") -> Probe:
    return open_probe("search", {"rendered": {"displays": 1, "experiments": [experiment], "scale": scale}})


@pytest.mark.parametrize(
    ("probe", "network"),
    [
        (None, Marked),
        (lighting(1.0), None),
        (lighting(1.0), Pooled),
        (lighting(0.64), Marked),  # cells of 31 pixels, attention of 16
        (lighting(1.0), Coarse),
        (lighting(0.3, "corner"), Coarse),
    ],
)
def test_what_cannot_search_has_no_number(probe: Probe | None, network: Any) -> None:
    np.testing.assert_equal(search(view_of(probe, network)), SCORES["search"].unavailable())


@pytest.mark.parametrize(("scale", "experiment", "network"), [(0.65, "lighting", Marked), (0.32, "corner", Coarse)])
def test_cells_of_two_attention_pixels_are_enough(scale: float, experiment: str, network: Any) -> None:
    assert np.isfinite(search(view_of(lighting(scale, experiment), network))["search_asymmetry"])


def test_the_shipped_experiment_shows_displays_that_can_be_searched() -> None:
    """Every cell is two attention pixels wide, and eccentric networks have the density of the displays."""
    raw = yaml.safe_load((Path(sweeps.__file__).parent / "experiments" / "search-asymmetry.yaml").read_text())
    source = open_probe("search", raw["probes"]["search"]).source
    assert isinstance(source, RenderedSearch)
    assert narrowest_cell(source) >= 2 * FINEST_ATTENTION
    own = [choice["eccentric"] for choice in raw["space"]["backbone"] if "eccentric" in choice]
    assert [each["pixels_per_degree"] for each in own] == [pytest.approx(30 * source.scale, rel=0.01)]


@pytest.mark.parametrize(("density", "told"), [(30.0, False), (20.0, True)])
def test_an_eccentric_network_of_another_density_is_told_of(density: float, told: bool) -> None:
    network = Marked()
    network.pixels_per_degree = density
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        search(view_of(lighting(1.0), lambda: network))
    messages = [str(each.message) for each in caught if "pixels per degree" in str(each.message)]
    assert len(messages) == told
    assert all("have 30 pixels per degree, the eccentric backbone that searches them 20" in each for each in messages)


def test_the_density_of_eccentric_networks_is_known() -> None:
    held = {key: parameter.default for key, parameter in BACKBONES["eccentric"].parameters.items()}
    assert BACKBONES["eccentric"].load()(held | {"pixels_per_degree": 12.5}, 0).pixels_per_degree == 12.5


@pytest.mark.slow
def test_efficientnet_finds_targets_sooner_trained_than_random() -> None:
    """Both experiments of orientation at less than half their size: trained features know the target, random hardly."""
    names = ["orientation", "orientation-mixed"]
    probe = open_probe("search", {"rendered": {"displays": 4, "experiments": names, "scale": 0.4}})
    means = []
    for weights in ("imagenet", "random"):
        network = BACKBONES["efficientnet-lite0"].load()({"weights": weights}, 0)
        assert isinstance(probe.source, RenderedSearch)
        found = searched(network, probe.source)
        means.append(np.mean([each.saccades.mean() for pair in found.values() for each in pair]))
    assert means[0] < 0.6 * means[1] < 0.6 * 8.5
