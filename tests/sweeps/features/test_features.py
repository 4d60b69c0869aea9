"""The feature cache: what it returns, what it computes, what it keeps."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from models.backbones import BACKBONES
from models.inputs.tensors import as_images
from models.sentences import embed
from sweeps.features import feature_cache
from sweeps.features.block_features import BlockFeatures
from sweeps.features.feature_cache import SHARD, FeatureCache
from sweeps.features.shown_stimuli import ShownStimuli
from sweeps.recordings.recording import Recording

CPU = torch.device("cpu")
BACKBONE = {"name": "efficientnet-lite0", "weights": "random"}


def pictures(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (count, 32, 32, 3), dtype=np.uint8)


def shown(images: np.ndarray, key: str = "key") -> ShownStimuli:
    return ShownStimuli(key, len(images), lambda rows: images[rows])


def block_of(depth: int, seed: int = 0, pool: int = 4) -> BlockFeatures:
    """One block of the backbone; a recording takes no part in maps of pictures."""
    return BlockFeatures(Recording("r", "f", np.array(["V1"]), {}), BACKBONE, seed, depth, pool)


def test_maps_equal_the_backbone_and_are_averaged_but_never_enlarged(tmp_path: Path) -> None:
    images = pictures(SHARD + 10)
    cache = FeatureCache(tmp_path, 1e9, CPU)
    network = BACKBONES["efficientnet-lite0"].load()({"weights": "random"}, 3)
    with torch.inference_mode():
        direct = network.forward_blocks(as_images(images, CPU), [0, 5])
    large = cache.maps(block_of(0, seed=3), shown(images), [0, 5])
    small = cache.maps(block_of(5, seed=3), shown(images), [0, 5])
    pooled = torch.nn.functional.adaptive_avg_pool2d(direct[0], 4)
    assert large.shape == (len(images), direct[0].shape[1], 4, 4)
    assert small.shape == tuple(direct[1].shape)
    np.testing.assert_allclose(large, pooled.numpy(), atol=1e-4)
    np.testing.assert_allclose(small, direct[1].numpy(), atol=1e-4)


def test_what_is_known_is_not_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = pictures(20)
    cache = FeatureCache(tmp_path, 1e9, CPU)
    first = cache.maps(block_of(1), shown(images), [0, 1])

    def refuse(*_: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(FeatureCache, "network", refuse)
    again = FeatureCache(tmp_path, 1e9, CPU).maps(block_of(1), shown(images), [0, 1])
    np.testing.assert_array_equal(first, again)
    FeatureCache(tmp_path, 1e9, CPU).maps(block_of(0), shown(images), [0, 1])  # of the same pass
    for block, stimuli in (
        (block_of(1, seed=1), shown(images)),
        (block_of(1), shown(images, "other")),
        (block_of(1, pool=2), shown(images)),
    ):
        with pytest.raises(AssertionError, match="computed again"):
            cache.maps(block, stimuli, [1])


def test_maps_in_memory_are_apart_from_those_on_disk(tmp_path: Path) -> None:
    """Kernels centre features in place."""
    images, cache = pictures(20), FeatureCache(tmp_path, 1e9, CPU)
    first = cache.maps(block_of(0), shown(images), [0]).copy()
    for _ in range(2):
        maps = cache.maps(block_of(0), shown(images), [0])
        np.testing.assert_array_equal(maps, first)
        maps -= 1.0


def test_two_processes_share_the_shards(tmp_path: Path) -> None:
    code = f"""
import numpy as np, torch
from sweeps.features.block_features import BlockFeatures
from sweeps.features.feature_cache import FeatureCache
from sweeps.features.shown_stimuli import ShownStimuli
images = np.random.default_rng(0).integers(0, 255, (700, 32, 32, 3), dtype=np.uint8)
starts = []
def load(rows):
    starts.append(rows.start)
    return images[rows]
FeatureCache(__import__("pathlib").Path({str(tmp_path)!r}), 1e9, torch.device("cpu")).maps(
    BlockFeatures(None, {BACKBONE!r}, 0, 9, 4), ShownStimuli("key", 700, load), [0, 9])
print(*starts)
"""
    root = Path(__file__).resolve().parents[3]
    running = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=root) for _ in range(2)
    ]
    computed = [int(start) for process in running for start in process.communicate(timeout=120)[0].split()]
    assert all(process.returncode == 0 for process in running)
    assert sorted(computed) == [0, 256, 512]


def test_a_shard_that_another_process_computes_is_left_to_it(tmp_path: Path) -> None:
    """The others are computed meanwhile, then it is waited for."""
    images, cache = pictures(SHARD + 10), FeatureCache(tmp_path, 1e9, CPU)
    starts: list[int] = []

    def load(rows: slice) -> np.ndarray:
        starts.append(rows.start)
        lock.__exit__(None, None, None)  # as soon as anything else is begun
        return images[rows]

    group = feature_cache._Shards(cache, block_of(0), shown(images), [0]).group
    lock = cache.disk.lock(f"{group}/00000")
    lock.__enter__()
    maps = cache.maps(block_of(0), ShownStimuli("key", len(images), load), [0])
    assert starts == [SHARD, 0]
    np.testing.assert_array_equal(maps, FeatureCache(tmp_path / "b", 1e9, CPU).maps(block_of(0), shown(images), [0]))


def test_the_maps_used_longest_ago_go_first_and_fresh_ones_stay(tmp_path: Path) -> None:
    images = pictures(10)
    cache = FeatureCache(tmp_path, 1e9, CPU)
    folders = {}
    for key in ("old", "older", "fresh"):
        before = set((tmp_path / "features").glob("*"))
        cache.maps(block_of(0), shown(images, key), [0])
        [folders[key]] = set((tmp_path / "features").iterdir()) - before
    for key, age in (("old", 5000), ("older", 9000)):
        os.utime(folders[key], (time.time() - age, time.time() - age))
    size = sum(file.stat().st_size for file in folders["old"].iterdir())
    cache.disk.limit = 2.5 * size
    cache.disk.prune()
    assert [key for key, folder in folders.items() if folder.exists()] == ["old", "fresh"]
    cache.disk.limit = 1
    cache.disk.prune()
    assert [key for key, folder in folders.items() if folder.exists()] == ["fresh"]


def test_sentences_are_embedded_once_per_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts, direct = ("a red cup", "a dog on grass", ""), embed(("a red cup", "a dog on grass", ""))
    np.testing.assert_array_equal(FeatureCache(tmp_path, 1e9, CPU).sentences(texts), direct)

    def refuse(*_: object) -> None:
        raise AssertionError("embedded again")

    monkeypatch.setattr("models.sentences.embed", refuse)
    again = FeatureCache(tmp_path, 1e9, CPU)
    np.testing.assert_array_equal(again.sentences(texts), direct)
    for other in (texts[:2], texts[::-1]):
        with pytest.raises(AssertionError, match="embedded again"):
            again.sentences(other)
