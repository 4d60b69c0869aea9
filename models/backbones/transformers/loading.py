"""Networks and tokenizers of transformers, frozen, from safetensors only and without code of the model's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from models.backbones.transformers.hub_files import place, read_config

UNUSED = ("hidden_states_norms.", "pooler.", "mask_token", "position_ids")
"""Parts of the names of parameters that a checkpoint may lack: left at 1 and 0, or not used here."""


def load_config(model: str, kind: Any, options: Mapping[str, Any]) -> Any:
    """The configuration of a model as `kind`, a configuration class of transformers, with some of its values set."""
    read_config(model)
    name, revision = place(model)
    options = {**options, "local_files_only": revision is None, "trust_remote_code": False}
    try:
        return kind.from_pretrained(name, revision=revision or "main", **options)
    except (OSError, ValueError) as error:
        raise ValueError(f"model {model}: its configuration cannot be read: {error}") from None


def load_network(model: str, kind: Any, config: Any, weights: str, seed: int) -> nn.Module:
    """A frozen network of class `kind` in evaluation mode, float32; global random state untouched.

    `weights`: `pretrained`, from the model's safetensors, or `random`, the library's own initialisation of an untrained
    network of the same configuration, drawn from `seed` alone. Raises ValueError where there are no safetensors, or
    where they lack parameters of the network.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed if weights == "random" else 0)
        network = kind(config) if weights == "random" else _pretrained(model, kind, config)
    frozen: nn.Module = network.float().requires_grad_(False).eval()
    return frozen


def _pretrained(model: str, kind: Any, config: Any) -> nn.Module:
    name, revision = place(model)
    options: dict[str, Any] = {"use_safetensors": True, "trust_remote_code": False, "output_loading_info": True}
    options |= {"local_files_only": revision is None, "dtype": torch.float32}
    try:
        with _quiet():
            network, report = kind.from_pretrained(name, config=config, revision=revision or "main", **options)
    except (OSError, RuntimeError) as error:
        raise ValueError(f"model {model}: its weights cannot be loaded: {error}") from None
    lacking = sorted(key for key in report["missing_keys"] if not any(part in key for part in UNUSED))
    if lacking:
        raise ValueError(f"model {model}: its weights lack {len(lacking)} parameters, {lacking[0]} the first of them")
    loaded: nn.Module = network
    return loaded


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars and no reports of transformers, whose settings are put back afterwards."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def load_tokenizer(model: str) -> Any:
    """The tokenizer of a model; ValueError where it has none, or one that knows no word."""
    from transformers import AutoTokenizer

    name, revision = place(model)
    options = {"local_files_only": revision is None, "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, revision=revision or "main", **options)
    except (OSError, ValueError) as error:
        raise ValueError(f"model {model}: its tokenizer cannot be loaded: {error}") from None
    if len(tokenizer) <= len(tokenizer.all_special_ids):  # what transformers makes of a folder without a vocabulary
        raise ValueError(f"model {model}: its tokenizer cannot be loaded: no vocabulary such as tokenizer.json")
    return tokenizer
