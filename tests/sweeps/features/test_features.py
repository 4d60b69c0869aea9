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
from sweeps.features.feature_cache import SHARD, FeatureCache

CPU = torch.device("cpu")
BACKBONE = {"name": "efficientnet-lite0", "weights": "random"}


def pictures(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (count, 32, 32, 3), dtype=np.uint8)


def test_maps_equal_the_backbone_and_are_averaged_but_never_enlarged(tmp_path: Path) -> None:
    images = pictures(SHARD + 10)
    cache = FeatureCache(tmp_path, 1e9, CPU)
    network = BACKBONES["efficientnet-lite0"].load()({"weights": "random"}, 3)
    with torch.inference_mode():
        direct = network.forward_blocks(as_images(images, CPU), [0, 5])
    large = cache.maps(BACKBONE, 3, "key", len(images), lambda rows: images[rows], [0, 5], 0, 4)
    small = cache.maps(BACKBONE, 3, "key", len(images), lambda rows: images[rows], [0, 5], 5, 4)
    pooled = torch.nn.functional.adaptive_avg_pool2d(direct[0], 4)
    assert large.shape == (len(images), direct[0].shape[1], 4, 4)
    assert small.shape == tuple(direct[1].shape)
    np.testing.assert_allclose(large, pooled.numpy(), atol=1e-4)
    np.testing.assert_allclose(small, direct[1].numpy(), atol=1e-4)


def test_what_is_known_is_not_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = pictures(20)
    cache = FeatureCache(tmp_path, 1e9, CPU)
    first = cache.maps(BACKBONE, 0, "key", 20, lambda rows: images[rows], [0, 1], 1, 4)

    def refuse(*_: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(FeatureCache, "network", refuse)
    again = FeatureCache(tmp_path, 1e9, CPU).maps(BACKBONE, 0, "key", 20, lambda rows: images[rows], [0, 1], 1, 4)
    np.testing.assert_array_equal(first, again)
    for other in ({"seed": 1}, {"stimuli": "other"}, {"pool": 2}):
        held = {"seed": 0, "stimuli": "key", "pool": 4, **other}
        with pytest.raises(AssertionError, match="computed again"):
            cache.maps(BACKBONE, held["seed"], held["stimuli"], 20, lambda rows: images[rows], [1], 1, held["pool"])


def test_two_processes_share_the_shards(tmp_path: Path) -> None:
    code = f"""
import numpy as np, torch
from sweeps.features.feature_cache import FeatureCache
images = np.random.default_rng(0).integers(0, 255, (700, 32, 32, 3), dtype=np.uint8)
done = []
def load(rows):
    done.append(rows.start)
    return images[rows]
FeatureCache(__import__("pathlib").Path({str(tmp_path)!r}), 1e9, torch.device("cpu")).maps(
    {BACKBONE!r}, 0, "key", 700, load, [0, 9], 9, 4)
print(*done)
"""
    root = Path(__file__).resolve().parents[3]
    running = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=root) for _ in range(2)
    ]
    computed = [int(start) for process in running for start in process.communicate(timeout=120)[0].split()]
    assert all(process.returncode == 0 for process in running)
    assert sorted(computed) == [0, 256, 512]


def test_the_oldest_entries_go_first_and_fresh_ones_stay(tmp_path: Path) -> None:
    images = pictures(10)
    cache = FeatureCache(tmp_path, 1e9, CPU)
    for key in ("old", "older", "fresh"):
        cache.maps(BACKBONE, 0, key, 10, lambda rows: images[rows], [0], 0, 4)
    entries = {key: cache._entry(BACKBONE, 0, key, 4) for key in ("old", "older", "fresh")}
    for key, age in (("old", 5000), ("older", 9000)):
        os.utime(entries[key], (time.time() - age, time.time() - age))
    size = sum(file.stat().st_size for file in entries["old"].iterdir())
    cache.limit = 2.5 * size
    cache._prune()
    assert [key for key, entry in entries.items() if entry.exists()] == ["old", "fresh"]
    cache.limit = 0
    cache._prune()
    assert [key for key, entry in entries.items() if entry.exists()] == ["fresh"]


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
