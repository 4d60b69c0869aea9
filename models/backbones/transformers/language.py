"""Language models of transformers, read at their embedded tokens and after every layer: one vector per text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from models.backbones.transformers.hooks import Tap, chain, first, run_until
from models.backbones.transformers.hub_files import language_count
from models.backbones.transformers.loading import load_config, load_network, load_tokenizer
from models.backbones.transformers.token_pooling import pool_texts

PADDED_POSITIONS = ("roberta", "xlm-roberta", "camembert", "bridgetower_text_model")
"""Model types that count positions from the padding token on: so many fewer tokens fit."""


class Reader:
    """Texts as padded token ids, cut to what a model can read.

    `keep` says which end of a text that is too long stays: `start`, or `end`, for a context whose last word counts.
    """

    def __init__(self, model: str, config: Any, keep: str) -> None:
        self.tokenizer = load_tokenizer(model)
        self.tokenizer.truncation_side = {"start": "right", "end": "left"}[keep]
        self.tokenizer.padding_side = "right"
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token or self.tokenizer.unk_token
        self.longest = longest(config, self.tokenizer)

    def __call__(self, texts: Sequence[str], device: torch.device) -> tuple[Tensor, Tensor]:
        """Token ids and mask (texts, tokens), 1 for tokens, 0 for padding; TypeError for what is no list of texts."""
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise TypeError("a backbone of texts takes a sequence of texts")
        encoded = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=self.longest, return_tensors="pt"
        )
        return encoded["input_ids"].long().to(device), encoded["attention_mask"].long().to(device)


def longest(config: Any, tokenizer: Any) -> int:
    """Tokens that a model can read at once; a model without position embeddings reads 4096."""
    longest = int(getattr(config, "max_position_embeddings", None) or 4096)
    if config.model_type in PADDED_POSITIONS:
        longest -= int(config.pad_token_id) + 1
    return min(longest, int(tokenizer.model_max_length))


class LanguageModel(nn.Module):
    """A frozen language model, causal or not; depth = embedded tokens, then every layer.

    Block i is hidden state i of transformers: after the last layer that includes the final norm, where there is one.
    `token` says which of a text's tokens stand for it: `last`, which in a causal model has seen all others, or the
    `mean`. Of texts that are too long the end is read. `model`, `weights`: as for `autobackbone`. Raises ValueError for
    encoder-decoder models and for those whose layers are no list of `num_hidden_layers` modules.
    """

    def __init__(self, parameters: Mapping[str, Any], seed: int) -> None:
        super().__init__()
        from transformers import MODEL_MAPPING, AutoConfig

        model = parameters["model"]
        config = load_config(model, AutoConfig, {"use_cache": False})
        if config.is_encoder_decoder or type(config) not in MODEL_MAPPING:
            raise ValueError(f"model {model}: a {config.model_type} cannot be read as a language model of one stack")
        self.token, self.read = str(parameters["token"]), Reader(model, config, keep="end")
        self.network = load_network(model, MODEL_MAPPING[type(config)], config, parameters["weights"], seed)
        self.layers = layer_list(self.network, language_count(parameters) - 1, model)
        self.eval()

    def forward_texts(self, texts: Sequence[str], blocks: Sequence[int]) -> list[Tensor]:
        """Vectors (texts, channels) of the requested blocks, in the requested order (see `models.backbones`)."""
        ids, mask = self.read(texts, next(self.network.parameters()).device)
        taps = [*chain(self.network.get_submodule(self.layers))[:-1], Tap(self.network)]  # type: ignore[arg-type]
        values = run_until(lambda: self.network(input_ids=ids, attention_mask=mask), taps, blocks)
        return [pool_texts(hidden(values[block]), mask, self.token) for block in blocks]


def hidden(value: Any) -> Tensor:
    """The hidden states in what a layer, or the whole network, gave."""
    hidden_states: Tensor = value.last_hidden_state if hasattr(value, "last_hidden_state") else first(value)
    return hidden_states


def layer_list(network: nn.Module, layers: int, model: str) -> str:
    """Name of the outermost list of `layers` modules in a network; ValueError where there is none."""
    for name, module in network.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == layers:
            return name
    raise ValueError(f"model {model}: {type(network).__name__} has no list of {layers} layers")
