"""Models in the layout of transformers, in a local folder or on the Hugging Face hub: what their files say.

A model is named by one text: an existing folder, else `owner/name` or `owner/name@revision` of the hub, whose files
come through huggingface_hub (its cache, HF_HUB_OFFLINE and HF_ENDPOINT are honoured). Nothing here imports torch, so
the driver can ask for the number of blocks and for a fingerprint; `models.backbones.transformers.loading` makes the
networks.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.backbones.file_digest import digest_of

if TYPE_CHECKING:
    from torch import Tensor

HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w.-]+)?(@[\w./-]+)?")
"""`name`, `owner/name` or `owner/name@revision`."""

READ = (".json", ".txt", ".model", ".jinja")
"""Endings of the files, besides weights, that a model of transformers is made from."""

LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
"""Names that language models have for their number of layers; the first one present counts."""


@dataclass(frozen=True)
class Family:
    """One kind of vision network: where its layers are, and which key of config.json says how many there are.

    `stages` is the number where config.json leaves the key out. `tokens`: its layers give tokens, not maps.
    """

    layers: str
    key: str
    stages: int
    tokens: bool = False


FAMILIES: dict[str, Family] = {
    "resnet": Family("encoder.stages", "depths", 4),
    "convnext": Family("encoder.stages", "depths", 4),
    "convnextv2": Family("encoder.stages", "depths", 4),
    "swin": Family("swin.encoder.layers", "depths", 4),
    "dinov2": Family("encoder.layer", "num_hidden_layers", 12, tokens=True),
    "dinov2_with_registers": Family("encoder.layer", "num_hidden_layers", 12, tokens=True),
    "dinov3_vit": Family("model.layer", "num_hidden_layers", 12, tokens=True),
    "beit": Family("beit.layers", "num_hidden_layers", 12, tokens=True),
    "vit": Family("layers", "num_hidden_layers", 12, tokens=True),
    "deit": Family("layers", "num_hidden_layers", 12, tokens=True),
}
"""Model type, as config.json gives it -> family."""


def is_folder(model: str) -> bool:
    """Whether a model's name is an existing folder; ValueError for a name that no model can have."""
    if not isinstance(model, str) or not model:
        raise ValueError(f"model must be a folder or the name of a model of the hub; got {model!r}")
    if os.path.isdir(model):
        return True
    if not HUB_NAME.fullmatch(model):
        raise ValueError(f"model {model!r} is no folder, and no name of the hub: owner/name or owner/name@revision")
    return False


def place(model: str) -> tuple[str, str | None]:
    """(folder, None), or (name, revision) of the hub; the revision is "main" where none is given."""
    if is_folder(model):
        return model, None
    name, _, revision = model.partition("@")
    return name, revision or "main"


def find_file(model: str, file: str) -> Path | None:
    """Path of one of a model's files, None where the model has no such file.

    Raises ValueError where that cannot be known: no such model, no access, or offline and not in the cache.
    """
    name, revision = place(model)
    if revision is not None:
        return _hub_file(name, revision, file)
    path = Path(name) / file
    return path if path.is_file() else None


@functools.lru_cache(maxsize=256)
def _hub_file(name: str, revision: str, file: str) -> Path | None:
    """A file of a repository of the hub, asked for once a process."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HFValidationError, RemoteEntryNotFoundError

    try:
        return Path(hf_hub_download(name, file, revision=revision))
    except RemoteEntryNotFoundError:  # the hub says so; also an OSError
        return None
    except (OSError, HFValidationError) as error:  # no such model, no access, offline and not in the cache
        raise ValueError(f"model {name}@{revision}: {file} cannot be had ({type(error).__name__}: {error})") from None


def read_json(model: str, file: str) -> dict[str, Any] | None:
    """A model's JSON file, None where it has none; ValueError for one that holds no JSON object."""
    path = find_file(model, file)
    if path is None:
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"model {model}: {file} is no JSON file: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"model {model}: {file} must hold a JSON object, not {type(content).__name__}")
    return content


def read_config(model: str) -> dict[str, Any]:
    """config.json of a model; ValueError where there is none."""
    config = read_json(model, "config.json")
    if config is None:
        raise ValueError(f"model {model} has no config.json")
    return config


def family_of(model: str) -> Family:
    """Family of a vision network; ValueError names those that can be read."""
    kind = read_config(model).get("model_type")
    if kind not in FAMILIES:
        raise ValueError(f"model {model}: config.json has model_type {kind!r}; allowed: {', '.join(FAMILIES)}")
    return FAMILIES[kind]


def _number(config: Mapping[str, Any], keys: tuple[str, ...], default: int | None, where: str) -> int:
    """The whole number above 0 that one of the keys holds."""
    count = next((config[key] for key in keys if config.get(key) is not None), default)
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise ValueError(f"{where}: {' or '.join(keys)} must be a whole number above 0; got {count!r}")
    return count


def _part(model: str, kind: str, part: str) -> dict[str, Any]:
    """The section of one tower in the configuration of a two-tower model, or the whole of one tower's own."""
    config = read_config(model)
    if config.get("model_type") == f"{kind}_{part}_model":
        return config
    if config.get("model_type") != kind:
        raise ValueError(f"model {model}: config.json must have model_type {kind}, not {config.get('model_type')!r}")
    return dict(config.get(f"{part}_config") or {})


def stage_count(parameters: Mapping[str, Any]) -> int:
    """Blocks of `autobackbone`: the stem or the embedded patches, then every stage or layer.

    Raises ValueError where the class token is to be read of a family that has none.
    """
    model = parameters["model"]
    family, config = family_of(model), read_config(model)
    if parameters.get("pooling") == "class" and not family.tokens:
        raise ValueError(f"model {model}: pooling `class` needs a class token, which a {config['model_type']} has not")
    if family.key == "depths":
        return 1 + len(config.get("depths") or range(family.stages))
    return 1 + _number(config, (family.key,), family.stages, f"model {model}: config.json")


def clip_vision_count(parameters: Mapping[str, Any]) -> int:
    """Blocks of `clip-vision`: embedded patches, every layer, the projected embedding."""
    return 2 + _tower_layers(parameters["model"], "clip", "vision")


def clip_text_count(parameters: Mapping[str, Any]) -> int:
    """Blocks of `clip-text`: embedded tokens, every layer, the projected embedding."""
    return 2 + _tower_layers(parameters["model"], "clip", "text")


def bridgetower_vision_count(parameters: Mapping[str, Any]) -> int:
    """Blocks of `bridgetower-vision`: embedded patches, the layers of the vision tower, the cross-modal layers."""
    model = parameters["model"]
    dropped = bool(_part(model, "bridgetower", "vision").get("remove_last_layer", False))
    return 1 + _tower_layers(model, "bridgetower", "vision") - dropped + _cross_layers(model)


def bridgetower_language_count(parameters: Mapping[str, Any]) -> int:
    """Blocks of `bridgetower-language`: embedded tokens, the layers of the text tower, the cross-modal layers."""
    model = parameters["model"]
    return 1 + _tower_layers(model, "bridgetower", "text") + _cross_layers(model)


def _tower_layers(model: str, kind: str, part: str) -> int:
    where = f"model {model}: {part}_config of config.json"
    return _number(_part(model, kind, part), ("num_hidden_layers",), 12, where)


def _cross_layers(model: str) -> int:
    return _number(read_config(model), ("num_hidden_layers",), 6, f"model {model}: config.json")


def language_count(parameters: Mapping[str, Any]) -> int:
    """Blocks of `language`: embedded tokens, then every layer."""
    model = parameters["model"]
    return 1 + _number(read_config(model), LAYERS, None, f"model {model}: config.json")


@dataclass(frozen=True)
class PixelStatistics:
    """How a model wants its pictures: x -> (x - mean) / std per channel, for x in [0, 1], red green blue."""

    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    def apply(self, images: Tensor) -> Tensor:
        """Images (stimuli, 3, h, w) in [0, 1], normalised."""
        mean, std = (images.new_tensor(values)[:, None, None] for values in (self.mean, self.std))
        return (images - mean) / std


def pixel_statistics(model: str) -> PixelStatistics:
    """What preprocessor_config.json (or processor_config.json) says; ImageNet's where the model has neither.

    The file's `rescale_factor` is meant for pixels from 0 to 255 and is taken into account, as is `do_normalize`.
    """
    settings = read_json(model, "preprocessor_config.json")
    if settings is None:
        settings = (read_json(model, "processor_config.json") or {}).get("image_processor")
    if settings is None:
        return PixelStatistics()
    scale = 255 * float(settings.get("rescale_factor", 1 / 255)) if settings.get("do_rescale", True) else 255.0
    if not settings.get("do_normalize", True):
        return PixelStatistics((0.0,) * 3, (1 / scale,) * 3)
    mean, std = (_three(settings, key, model) for key in ("image_mean", "image_std"))
    return PixelStatistics(tuple(value / scale for value in mean), tuple(value / scale for value in std))


def _three(settings: Mapping[str, Any], key: str, model: str) -> list[float]:
    values = settings.get(key)
    if not isinstance(values, list) or len(values) != 3:
        raise ValueError(f"model {model}: {key} of its image processor must be 3 numbers; got {values!r}")
    return [float(value) for value in values]


def fingerprint(parameters: Mapping[str, Any]) -> str:
    """What a model is, for identities: by content where it is a folder, by commit where it is on the hub.

    A folder: SHA-256 of the names and bytes of its JSON and text files, and of its safetensors unless `weights` is
    `random`; so it stays the same when the folder moves. On the hub: `owner/name@commit`. Reads config.json at least;
    ValueError where there is none.
    """
    model = parameters["model"]
    read_config(model)
    name, revision = place(model)
    if revision is not None:
        path = find_file(model, "config.json")
        assert path is not None
        return f"{name}@{path.parent.name}"
    endings = READ if parameters.get("weights") == "random" else (*READ, ".safetensors")
    files = sorted(path for path in Path(name).iterdir() if path.is_file() and path.suffix in endings)
    lines = [f"{digest_of(str(path))} {path.name}\n" for path in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()
