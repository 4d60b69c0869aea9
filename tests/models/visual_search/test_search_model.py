"""The search loop and its attention against closed forms, OpenCV's and SciPy's conventions, and planted targets."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import correlate, gaussian_filter
from torch import nn

import models.visual_search.saccades
from models.backbones import BACKBONES
from models.visual_search.attention import (
    Raster,
    Sharpening,
    Surround,
    TargetAttention,
    attention_raster,
    blurred,
    combined,
    count_blocks,
    device_of,
    gaussian_kernel,
    halved,
    halvings,
    scan,
    search_blocks,
    sharpened,
)
from models.visual_search.saccades import Task, chance, search

torch.set_num_threads(1)

EDGES = (0, 16, 32, 48, 64)
TASK = Task(EDGES, 0.0, margin=8, window=1)
SHARP = Sharpening((3, 1.0), (5, 3.0))


def blank(count, side=64):
    return torch.zeros(count, 3, side, side)


def planted(target_cells, task=TASK):
    """Attention that shines where the display does: the mean over colours of the crop."""
    displays = torch.full((len(target_cells), 3, task.side, task.side), task.ground)
    for display, cell in zip(displays, target_cells, strict=True):
        high, wide = task.box(cell)
        display[:, (high.start + high.stop) // 2, (wide.start + wide.stop) // 2] = 1.0
    return displays


def shining(crops, rows):
    return crops.mean(dim=1)


@pytest.mark.parametrize("recenter", [True, False])
def test_a_planted_feature_is_found_at_once_in_every_cell(recenter):
    cells = list(range(16))
    found = search(shining, planted(cells), cells, TASK, recenter)
    assert found.saccades.tolist() == [1.0] * 16
    assert found.fixations[:, 0].tolist() == [[32, 32]] * 16
    assert found.fixations[5, 1].tolist() == [24, 24]
    assert (found.fixations[:, 2:] == -1).all()


def test_the_display_is_searched_in_the_order_of_attention():
    """Four lights of falling brightness; the target has the third."""
    display = blank(1)
    places = {0: 1.0, 6: 0.9, 9: 0.8, 15: 0.7}
    for cell, light in places.items():
        high, wide = TASK.box(cell)
        display[0, :, high.start + 3, wide.start + 5] = light
    found = search(shining, display, [9], TASK)
    assert found.saccades.tolist() == [3.0]
    assert [TASK.cell_at(y, x) for y, x in found.fixations[0, 1:4].tolist()] == [0, 6, 9]


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 5), st.integers(0, 30))
def test_no_cell_is_looked_at_twice_and_every_target_is_found(seed, grid, margin):
    side = 7 * grid + 2
    task = Task(tuple(round(i * side / grid) for i in range(grid + 1)), 0.5, margin, window=1)
    targets = [seed % task.cells, 0, task.cells - 1]
    found = search(chance(seed), torch.full((3, 3, side, side), 0.5), targets, task)
    assert found.saccades.isfinite().all()
    for path, count, target in zip(found.fixations.tolist(), found.saccades.int().tolist(), targets, strict=True):
        seen = [task.cell_at(y, x) for y, x in path[1 : count + 1]]
        assert len(set(seen)) == len(seen) == count <= task.cells
        assert seen[-1] == target
        assert all(y == x == -1 for y, x in path[count + 1 :])


def test_chance_needs_half_of_the_cells_on_average():
    """Uniform on 1 to 16: mean 8.5, standard error sqrt((16^2 - 1) / 12 / n)."""
    displays, targets = blank(320, 16), [i % 16 for i in range(320)]
    task = Task((0, 4, 8, 12, 16), 0.0, 0, window=1)
    saccades = search(chance(0), displays, targets, task).saccades
    assert saccades.mean().item() == pytest.approx(8.5, abs=4 * math.sqrt(255 / 12 / 320))
    assert saccades.std().item() == pytest.approx(math.sqrt(255 / 12), rel=0.1)


def test_what_was_looked_at_is_painted_and_closed_for_good():
    shown = []

    def attend(crops, rows):
        shown.append(crops.clone())
        return crops.mean(dim=1)

    display = torch.full((1, 3, 64, 64), 0.2)
    display[0, :, 20, 20], display[0, :, 40, 40] = 1.0, 0.9
    task = Task(EDGES, 0.6, margin=8, window=1)
    search(attend, display, [10], task)
    first, second = shown  # fixated at (32, 32), then at (20, 20)
    assert first.shape == (1, 3, 144, 144)
    assert first[0, 0, 72 - 32, 72 - 32] == pytest.approx(0.2)  # the display's corner
    assert first[0, 0, 72 - 33, 72] == pytest.approx(0.6)  # background around it
    assert second[0, 0, 72, 72] == pytest.approx(0.6)  # where one looks now
    cell = second[0, 0, 72 - 4 : 72 + 12, 72 - 4 : 72 + 12]
    assert (cell == torch.tensor(0.6)).all()
    assert second[0, 0, 72 + 12, 72 + 12] == pytest.approx(0.2)
    assert second[0, 0, 72 + 20, 72 + 20] == pytest.approx(0.9)
    assert display[0, 0, 20, 20] == 1.0  # the caller's own is left alone


def test_the_oracle_knows_the_target_five_pixels_away():
    task = Task((0, 50, 100), 0.0, window=10)
    assert [task.recognises(20, x, 1) for x in (44, 45, 46, 54)] == [False, False, True, True]
    assert [task.recognises(y, 20, 0) for y in (53, 54, 55)] == [True, True, False]
    display = blank(1, 100)
    display[0, :, 20, 46] = 1.0  # in cell 0, beside cell 1
    assert search(shining, display, [1], task).saccades.tolist() == [1.0]
    assert search(shining, display, [2], task).saccades[0] > 1


def test_the_limit_leaves_targets_that_were_never_found():
    found = search(shining, planted([0, 5]), [0, 6], TASK, most=1)
    assert found.saccades[0] == 1
    assert found.saccades[1].isnan()
    assert found.fixations.shape == (2, 2, 2)


def test_recentred_maps_are_the_shifted_map_up_to_borders():
    """A 5 x 5 filter sees the same around every fixation, so both ways visit the same cells."""
    kernel = torch.rand(1, 3, 5, 5, generator=torch.Generator().manual_seed(1))
    displays = torch.rand(6, 3, 64, 64, generator=torch.Generator().manual_seed(2))

    def attend(crops, rows):
        return nn.functional.conv2d(crops, kernel, padding=2)[:, 0]

    task = Task(EDGES, 0.0, margin=8, window=3)
    paths = [search(attend, displays, [3, 7, 0, 9, 12, 15], task, recenter) for recenter in (True, False)]
    assert torch.equal(paths[0].fixations, paths[1].fixations)
    assert paths[0].saccades.max() > 3


@pytest.mark.parametrize(("recenter", "side"), [(True, 144), (False, 80)])
@pytest.mark.parametrize(("pixels", "largest"), [(1, 1), (3 * 144**2, 3), (10**6, 6)])
def test_a_network_sees_as_many_crops_at_once_as_the_budget_of_pixels_allows(
    monkeypatch, recenter, side, pixels, largest
):
    counts = []

    def attend(crops, rows):
        assert crops.shape[1:] == (3, side, side)
        counts.append(len(crops))
        return crops.mean(dim=1)

    displays, targets = torch.rand(6, 3, 64, 64, generator=torch.Generator().manual_seed(2)), [3, 7, 0, 9, 12, 15]
    expected = search(shining, displays, targets, TASK, recenter)
    monkeypatch.setattr(models.visual_search.saccades, "PIXELS", pixels * side**2 // 144**2)
    found = search(attend, displays, targets, TASK, recenter)
    assert torch.equal(found.fixations, expected.fixations)
    assert max(counts) == largest
    assert sum(counts) == found.saccades.sum()


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: Task((0, 5, 5), 0.0), r"edges must rise from 0 to the display's side; got \(0, 5, 5\)"),
        (lambda: Task((0, 5), 0.0, window=0), "window 1 or more; got 64, 0"),
        (lambda: search(shining, blank(2), [0], TASK), r"displays must be \(1, 3, 64, 64\).*got \(2, 3, 64, 64\)"),
        (lambda: search(lambda c, r: c.mean(1) / 0, blank(1), [0], TASK), "attention must be finite"),
        (lambda: TargetAttention(lambda x: [x], blank(1), [0], SHARP, "mean"), "combine must be max or equal"),
        (lambda: gaussian_kernel(4, 1.0), "odd size"),
        (lambda: gaussian_kernel(9, 0.0), "1, 3 or 5 for sigma 0"),
        (lambda: sharpened(torch.zeros(1, 2, 2), SHARP), "too small for a kernel of 5"),
    ],
)
def test_bad_input_is_refused(make, complaint):
    with pytest.raises(ValueError, match=complaint):
        make()


@pytest.mark.parametrize(("high", "wide"), [(3, 3), (2, 4), (1, 1), (4, 3)])
def test_scanning_is_scipys_correlation_summed_over_channels(high, wide):
    generator = torch.Generator().manual_seed(0)
    maps, kernels = torch.randn(2, 3, 9, 8, generator=generator), torch.randn(2, 3, high, wide, generator=generator)
    found = scan(maps, kernels)
    for each, image, kernel in zip(found.numpy(), maps.numpy(), kernels.numpy(), strict=True):
        origin = [-1 if size % 2 == 0 else 0 for size in (high, wide)]  # of an even kernel the earlier middle
        parts = [correlate(a, b, mode="constant", origin=origin) for a, b in zip(image, kernel, strict=True)]
        np.testing.assert_allclose(each, np.sum(parts, axis=0), rtol=1e-4, atol=1e-5)


def test_maps_are_combined_by_their_maxima():
    """By hand: maxima 4 and 1; maps scaled to (0, 1/2, 1) and (1, 0, 1/3)."""
    maps = [torch.tensor([[[0.0, 2.0, 4.0]]]), torch.tensor([[[1.0, -2.0, -1.0]]])]
    by_maximum, equal = combined(maps, True)[0, 0], combined(maps, False)[0, 0]
    torch.testing.assert_close(by_maximum, torch.tensor([1 / 5, 2 / 5, (4 + 1 / 3) / 5]))
    torch.testing.assert_close(equal, torch.tensor([1 / 2, 1 / 4, 2 / 3]))


def test_constant_and_negative_maps_say_little():
    ramp = torch.tensor([[[0.0, 1.0, 2.0]]])
    torch.testing.assert_close(combined([ramp, torch.zeros(1, 1, 3)], True), ramp / 2)
    torch.testing.assert_close(combined([ramp, ramp.flip(-1) - 9], True), ramp / 2)  # weight 0
    below = [ramp - 9, ramp.flip(-1) - 9]
    torch.testing.assert_close(combined(below, True), torch.full((1, 1, 3), 0.5))
    assert combined([torch.ones(1, 2, 2)], True).tolist() == [[[0.0, 0.0], [0.0, 0.0]]]


@pytest.mark.parametrize(("size", "sigma"), [(3, 1.0), (5, 3.0), (7, 5.0), (5, 1.0)])
def test_blurring_is_scipys_truncated_gaussian(size, sigma):
    maps = torch.rand(2, 9, 8)
    expected = gaussian_filter(maps.numpy(), (0, sigma, sigma), mode="mirror", radius=(0, size // 2, size // 2))
    np.testing.assert_allclose(blurred(maps, size, sigma).numpy(), expected, rtol=1e-5)


def test_sharpening_adds_the_centre_and_takes_the_surround_three_times():
    spot = torch.zeros(1, 21, 21)
    spot[0, 10, 10] = 1.0
    by_hand = spot.numpy()[0]
    for _ in range(3):
        centre, surround = (gaussian_filter(by_hand, s, mode="mirror", radius=r) for s, r in ((1.0, 1), (3.0, 2)))
        by_hand = by_hand + centre - surround
    np.testing.assert_allclose(sharpened(spot, SHARP)[0].numpy(), by_hand, rtol=1e-4, atol=1e-6)
    assert sharpened(spot, SHARP)[0, 10, 10] > spot[0, 10, 10]
    flat = torch.full((1, 9, 9), 0.3)
    torch.testing.assert_close(sharpened(flat, Sharpening((3, 0.0), (5, 1.0))), flat)
    assert gaussian_kernel(3, 0.0).tolist() == [0.25, 0.5, 0.25]


class Chain(nn.Module):
    """Blocks that halve their map by the mean, where told to."""

    def __init__(self, halve):
        super().__init__()
        self.halve = halve

    def forward_blocks(self, images, blocks):
        if any(not 0 <= block < len(self.halve) for block in blocks):
            raise ValueError("block does not exist")
        maps, value = [], images
        for each in self.halve:
            value = halved(value, int(each))
            maps.append(value)
        return [maps[block] for block in blocks]


@pytest.mark.parametrize(
    ("halve", "chosen"),
    [
        ((0, 1, 1, 1, 1), [2, 3, 4]),
        ((1, 1, 0, 1, 0, 1, 0, 0, 1, 0), [2, 4, 7]),
        ((0, 0, 0), [2]),
        ((5, 0, 1), [1]),
    ],
)
def test_the_last_three_stages_are_read(halve, chosen):
    assert search_blocks(Chain(halve)) == chosen
    assert count_blocks(Chain(halve), blank(1)) == len(halve)


def test_the_stages_of_real_networks():
    held = {key: parameter.default for key, parameter in BACKBONES["efficientnet-lite0"].parameters.items()}
    assert search_blocks(BACKBONES["efficientnet-lite0"].load()(held, 0)) == [2, 4, 10]


def test_search_maps_are_brought_to_a_sixteenth_and_the_target_to_half_of_that():
    sides = [torch.zeros(1, 1, side, side) for side in (202, 101, 51)]  # 806 px, layers 3 to 5
    assert halvings(sides, 806) == [2, 1, 0]
    assert [halved(each, times).shape[-1] for each, times in zip(sides, (2, 1, 0), strict=True)] == [51, 51, 51]
    assert halvings([torch.zeros(1, 1, 7, 7)], 224) == [0]
    assert halvings([torch.zeros(1, 1, 64, 64)], 64) == [4]


def test_target_attention_by_hand():
    """Two layers of a fixed network, put together from SciPy's correlation, for two displays and their targets."""
    network = Chain((2, 1, 1))  # maps of 1/4, 1/8 and 1/16

    def features(pictures):
        return network.forward_blocks(pictures, [1, 2])

    generator = torch.Generator().manual_seed(3)
    crops, targets = torch.rand(2, 3, 192, 192, generator=generator), torch.rand(2, 3, 64, 64, generator=generator)
    found = TargetAttention(features, targets, [1, 0], SHARP)(crops, torch.tensor([0, 1]))
    for index, kind in enumerate((1, 0)):
        maps = []
        shown, wanted = features(crops[index : index + 1]), features(targets[kind : kind + 1])
        for layer, times in ((0, 1), (1, 0)):
            image, kernel = halved(shown[layer], times)[0].numpy(), halved(wanted[layer], times + 1)[0].numpy()
            origin = [-1, -1]
            maps.append(
                sum(correlate(a, b, mode="constant", origin=origin) for a, b in zip(image, kernel, strict=True))
            )
        tops = [each.max() for each in maps]
        scaled = [(each - each.min()) / (each.max() - each.min()) for each in maps]
        mean = torch.from_numpy(sum(t * s for t, s in zip(tops, scaled, strict=True)) / sum(tops))[None]
        torch.testing.assert_close(found[index : index + 1], sharpened(mean, SHARP), rtol=1e-3, atol=1e-4)


class Patches(nn.Module):
    """One block of whole patches, as a transformer cuts a picture: the mean of each, what is left over dropped."""

    def __init__(self, patch):
        super().__init__()
        self.patch = patch

    def forward_blocks(self, images, blocks):
        if any(blocks):
            raise ValueError("block does not exist")
        return [nn.functional.avg_pool2d(images, self.patch) for _ in blocks]


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (Patches(14), Raster(14, True)),
        (Patches(8), Raster(16, True)),
        (Patches(24), Raster(24, True)),
        (Patches(64), Raster(64, True)),
        (Chain((0, 0)), Raster(16, False)),
        (Chain((2, 1)), Raster(16, False)),
        (Chain((2, 1, 1)), Raster(16, False)),
        (Chain((5,)), Raster(32, False)),
    ],
)
def test_how_attention_lies_over_a_picture(network, expected):
    assert attention_raster(network, search_blocks(network)) == expected
    assert expected.whole == (expected.pixel if expected.drops else 1)


def test_networks_of_one_pixel_have_no_raster():
    class Pooled(Chain):
        def forward_blocks(self, images, blocks):
            return [found.mean(dim=(2, 3), keepdim=True) for found in super().forward_blocks(images, blocks)]

    assert attention_raster(Pooled((0, 1)), [1]) is None


@pytest.mark.parametrize("patch", [14, 16])
@pytest.mark.parametrize("margin", range(0, 16, 3))
def test_a_lone_item_is_found_whatever_a_patch_leaves_over(patch, margin):
    """A small item in each cell; crops are 2 (96 + margin) pixels wide. The patch that is fixated holds the item."""
    task = Task((0, 32, 64, 96), 0.5, margin, window=1)
    network = Patches(patch)
    blocks = search_blocks(network)
    whole = attention_raster(network, blocks).whole
    starts = [(row + 26, column + 26) for row in task.edges[:-1] for column in task.edges[:-1]]
    displays = torch.full((9, 3, 96, 96), 0.5)
    for display, (y, x) in zip(displays, starts, strict=True):
        display[:, y : y + 4, x : x + 4] = 1.0
    attention = TargetAttention(
        lambda pictures: [found - 0.5 for found in network.forward_blocks(pictures, blocks)],
        displays[:1, :, 20:36, 20:36],
        [0] * 9,
        SHARP,
        surround=Surround(whole, 0.5),
    )
    found = search(attention, displays, list(range(9)), task)
    assert found.saccades.tolist() == [1.0] * 9
    for (y, x), (row, column) in zip(starts, found.fixations[:, 1].tolist(), strict=True):
        assert y - patch < row < y + 4
        assert x - patch < column < x + 4


def test_pictures_of_whole_patches_are_shown_as_they_are():
    network, shown = Patches(16), []

    def features(pictures):
        shown.append(pictures)
        return network.forward_blocks(pictures, [0])

    crops, targets = torch.rand(1, 3, 144, 144), torch.rand(1, 3, 48, 48)
    found = TargetAttention(features, targets, [0], SHARP, surround=Surround(16))(crops, torch.tensor([0]))
    assert shown[0] is targets
    assert shown[1] is crops
    assert found.shape == (1, 9, 9)


def test_a_networks_device_is_that_of_its_parameters_else_of_its_buffers():
    held = nn.Module()
    assert device_of(held) == torch.device("cpu")
    held.register_buffer("counts", torch.zeros(1, device="meta"))
    assert device_of(held) == torch.device("meta")
    held.register_parameter("weight", nn.Parameter(torch.zeros(1)))
    assert device_of(held) == torch.device("cpu")
