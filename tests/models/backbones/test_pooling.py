"""Tokens to maps and vectors, against plain loops."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.backbones.transformers.token_pooling import Pooler, pool_texts, pool_tokens
from models.linear.projection import SparseProjection

torch.set_num_threads(1)


def tokens(stimuli, count, channels, seed=0):
    return torch.randn(stimuli, count, channels, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 3), st.integers(0, 3), st.integers(1, 4), st.integers(1, 4), st.integers(1, 5))
def test_patches_lie_row_by_row_after_the_leading_tokens(stimuli, leading, high, wide, channels):
    values = tokens(stimuli, leading + high * wide, channels)
    maps = pool_tokens(values, (high, wide), "patches")
    assert maps.shape == (stimuli, channels, high, wide)
    for row in range(high):
        for column in range(wide):
            assert torch.equal(maps[:, :, row, column], values[:, leading + row * wide + column])
    means, most = (pool_tokens(values, (high, wide), how) for how in ("mean", "max"))
    torch.testing.assert_close(means[..., 0, 0], maps.mean(dim=(2, 3)))
    assert torch.equal(most[..., 0, 0], maps.amax(dim=(2, 3)))


def test_class_token_is_the_first_one_and_must_be_there():
    values = tokens(2, 2 + 6, 3)
    assert torch.equal(pool_tokens(values, (2, 3), "class")[..., 0, 0], values[:, 0])
    with pytest.raises(ValueError, match="needs a class token, which this network has not"):
        pool_tokens(tokens(2, 6, 3), (2, 3), "class")


def test_projection_of_all_tokens():
    values, projection = tokens(3, 1 + 6, 4), SparseProjection(28, 10, seed=5)
    pooled = Pooler({"pooling": "projection", "dimensions": 10}, seed=5).tokens(values, (2, 3))
    expected = values.reshape(3, 28) @ projection.matrix(values).to_dense().T
    torch.testing.assert_close(pooled, expected[:, :, None, None])
    other = Pooler({"pooling": "projection", "dimensions": 10}, seed=6).tokens(values, (2, 3))
    assert not torch.allclose(pooled, other)


def test_maps_are_pooled_as_their_positions():
    maps = torch.randn(2, 3, 4, 5)
    for how, expected in (("patches", maps), ("mean", maps.mean(dim=(2, 3), keepdim=True))):
        torch.testing.assert_close(Pooler({"pooling": how, "dimensions": 1}, 0).maps(maps), expected)
    with pytest.raises(ValueError, match="needs a class token"):
        Pooler({"pooling": "class", "dimensions": 1}, 0).maps(maps)


@pytest.mark.parametrize(("count", "grid"), [(5, (2, 3)), (1, (0, 3))])
def test_tokens_that_are_no_grid(count, grid):
    with pytest.raises(ValueError, match="tokens are no grid of"):
        pool_tokens(tokens(2, count, 3), grid, "patches")


def test_unknown_words():
    with pytest.raises(ValueError, match="pooling must be patches, mean, max, class"):
        pool_tokens(tokens(2, 6, 3), (2, 3), "median")
    with pytest.raises(ValueError, match="or projection with one given"):
        pool_tokens(tokens(2, 6, 3), (2, 3), "projection")
    with pytest.raises(ValueError, match="token must be first, last or mean"):
        pool_texts(tokens(2, 4, 3), torch.ones(2, 4, dtype=torch.long), "median")


@settings(max_examples=12, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.booleans())
def test_texts_without_their_padding(lengths, padded_left):
    longest = max(lengths)
    values = tokens(len(lengths), longest, 3)
    starts = [longest - length if padded_left else 0 for length in lengths]
    mask = torch.zeros(len(lengths), longest, dtype=torch.long)
    for row, (start, length) in enumerate(zip(starts, lengths, strict=True)):
        mask[row, start : start + length] = 1
    held = [values[row, start : start + n] for row, (start, n) in enumerate(zip(starts, lengths, strict=True))]
    assert torch.equal(pool_texts(values, mask, "first"), torch.stack([part[0] for part in held]))
    assert torch.equal(pool_texts(values, mask, "last"), torch.stack([part[-1] for part in held]))
    torch.testing.assert_close(pool_texts(values, mask, "mean"), torch.stack([part.mean(dim=0) for part in held]))


def test_a_text_without_tokens():
    mask = torch.tensor([[1, 1], [0, 0]])
    with pytest.raises(ValueError, match="text 1 of these 2 has no tokens"):
        pool_texts(tokens(2, 2, 3), mask, "mean")
