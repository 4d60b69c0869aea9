import socket

import numpy as np
import pytest
import torch

from models.sentences import DIMENSIONS, embed

torch.set_num_threads(1)

NEAR = [
    ("a red car is parked in the street", "there is a crimson automobile on the road"),
    ("two dogs play in the park", "a pair of puppies is running on the grass"),
    ("a cup of coffee on a wooden table", "a mug with a hot drink stands on the desk"),
]


def test_near_pairs_are_closer_than_far_ones():
    left, right = (embed(list(side)) for side in zip(*NEAR, strict=True))
    similarity = left @ right.T
    assert (similarity.diagonal() > similarity.max(axis=1, where=~np.eye(3, dtype=bool), initial=-1) + 0.1).all()


def test_unit_vectors_in_the_order_given():
    sentences = [side for pair in NEAR for side in pair]
    vectors = embed(sentences, batch=4)
    assert vectors.shape == (6, DIMENSIONS)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-5)
    for sentence, vector in zip(sentences, vectors, strict=True):
        np.testing.assert_allclose(embed([sentence])[0], vector, atol=1e-5)
    np.testing.assert_array_equal(embed(sentences, batch=4), vectors)


def test_edges():
    assert embed([]).shape == (0, DIMENSIONS)
    assert np.isfinite(embed([""])).all()
    np.testing.assert_allclose(embed(["word " * 300]), embed(["word " * 900]), atol=1e-6)
    with pytest.raises(TypeError, match="sequence of texts"):
        embed("one text")
    with pytest.raises(TypeError, match="sequence of texts"):
        embed([None])


def test_no_network_is_touched(monkeypatch):
    from models import sentences

    def refuse(*arguments, **options):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    sentences._load.cache_clear()
    assert embed(["offline"]).shape == (1, DIMENSIONS)


def test_reference_values():
    """First values of sentence-transformers' own pipeline for this sentence (6.2.0, the same weights)."""
    expected = [0.004015, -0.016932, -0.145955, 0.071003, -0.055814, -0.008318]
    np.testing.assert_allclose(embed(["a red cube on a table"])[0, :6], expected, atol=1e-5)
