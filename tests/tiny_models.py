"""Tiny models of transformers with random weights, written as folders with safetensors and tokenizers of their own."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

SENTENCE = "a red car stands in the street and two dogs play near an old house while it rains on every tree"
"""Every word that the tokenizers know, each once."""

FOLDERS = tempfile.TemporaryDirectory(prefix="tiny-models-")
"""Removed when the process ends."""

VIT = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
CONVOLVED = {"depths": [1, 1, 2], "hidden_sizes": [8, 12, 16]}


def networks() -> dict[str, Callable[[], Any]]:
    """Model type -> a network of that type, as a user would save it: with whatever head it was trained with."""
    import transformers as hf

    two = {"image_size": 32, "patch_size": 8}
    text = {"vocab_size": 40, "hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 3}
    tower = {"hidden_size": 64, "num_hidden_layers": 4}
    read = {**text, **tower, "intermediate_size": 32, "max_position_embeddings": 40, "pad_token_id": 2}
    return {
        "resnet": lambda: hf.ResNetForImageClassification(
            hf.ResNetConfig(embedding_size=8, layer_type="basic", **CONVOLVED)
        ),
        "convnext": lambda: hf.ConvNextForImageClassification(hf.ConvNextConfig(num_stages=3, **CONVOLVED)),
        "convnextv2": lambda: hf.ConvNextV2Model(hf.ConvNextV2Config(num_stages=3, **CONVOLVED)),
        "swin": lambda: hf.SwinForImageClassification(
            hf.SwinConfig(image_size=32, embed_dim=8, depths=[1, 2], num_heads=[1, 2], window_size=4)
        ),
        "dinov2": lambda: hf.Dinov2Model(hf.Dinov2Config(image_size=28, patch_size=14, mlp_ratio=1, **VIT)),
        "dinov2_with_registers": lambda: hf.Dinov2WithRegistersModel(
            hf.Dinov2WithRegistersConfig(image_size=28, patch_size=14, mlp_ratio=1, num_register_tokens=2, **VIT)
        ),
        "dinov3_vit": lambda: hf.DINOv3ViTModel(hf.DINOv3ViTConfig(num_register_tokens=2, **two, **VIT)),
        "beit": lambda: hf.BeitForImageClassification(hf.BeitConfig(use_relative_position_bias=True, **two, **VIT)),
        "vit": lambda: hf.ViTForImageClassification(hf.ViTConfig(**two, **VIT)),
        "deit": lambda: hf.DeiTModel(hf.DeiTConfig(**two, **VIT)),
        "clip": lambda: hf.CLIPModel(
            hf.CLIPConfig(
                vision_config={**two, **VIT},
                text_config={**text, **VIT, "eos_token_id": 1, "max_position_embeddings": 16},
                projection_dim=24,
            )
        ),
        "bridgetower": lambda: hf.BridgeTowerForMaskedLM(
            hf.BridgeTowerConfig(
                vision_config={**tower, **two},
                text_config=read,
                hidden_size=64,
                num_hidden_layers=2,
                num_attention_heads=2,
            )
        ),
        "gpt2": lambda: hf.GPT2LMHeadModel(
            hf.GPT2Config(vocab_size=40, n_embd=32, n_layer=3, n_head=2, n_positions=24)
        ),
        "bert": lambda: hf.BertForMaskedLM(
            hf.BertConfig(intermediate_size=32, max_position_embeddings=24, pad_token_id=2, **text)
        ),
        "roberta": lambda: hf.RobertaModel(
            hf.RobertaConfig(intermediate_size=32, max_position_embeddings=24, pad_token_id=2, **text)
        ),
        "distilbert": lambda: hf.DistilBertModel(
            hf.DistilBertConfig(vocab_size=40, dim=32, n_layers=3, n_heads=2, hidden_dim=32, pad_token_id=2)
        ),
        "llama": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(intermediate_size=32, max_position_embeddings=24, **text)),
    }


@functools.cache
def tiny_model(kind: str) -> str:
    """Folder of a tiny model; equal weights in every process."""
    folder = Path(FOLDERS.name) / kind
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(sum(map(ord, kind)))
        network = networks()[kind]().eval()
        with torch.no_grad():
            for name, values in network.named_parameters():
                spread = 0.5 / values[0].numel() ** 0.5 if values.ndim > 1 else 0.1
                values.copy_((values.ndim == 1 and "norm" in name.lower()) + spread * torch.randn(values.shape))
    network.save_pretrained(folder)
    write_tokenizer(folder, kind)
    return str(folder)


def write_tokenizer(folder: Path, kind: str) -> None:
    """A tokenizer of whole words; all but GPT-2's put markers around a text, and GPT-2's has no padding token."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: place for place, word in enumerate(["<s>", "</s>", "<pad>", "<unk>", *SENTENCE.split()])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"unk_token": "<unk>", "eos_token": "</s>"}
    if kind != "gpt2":
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
        )
        special |= {"bos_token": "<s>", "pad_token": "<pad>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=1000, **special).save_pretrained(folder)
