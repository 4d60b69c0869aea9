"""Vision backbones of transformers against the library's own outputs, and what is read of a model's files."""

import json
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import tiny_model

from models.backbones import BACKBONES
from models.backbones.transformers.hooks import Tap, chain, run_until
from models.backbones.transformers.hub_files import FAMILIES, PixelStatistics, fingerprint, pixel_statistics

torch.set_num_threads(1)

STATISTICS = PixelStatistics()
FAST = ("resnet", "convnext", "swin", "dinov2", "vit")
TRIED = [kind if kind in FAST else pytest.param(kind, marks=pytest.mark.slow) for kind in FAMILIES]


def build(name, model, seed=0, **changes):
    parameters = {key: parameter.default for key, parameter in BACKBONES[name].parameters.items()}
    parameters |= {"model": model, **changes}
    return BACKBONES[name].load()(parameters, seed), BACKBONES[name].block_count(parameters)


def images(height, width=None, stimuli=2):
    return torch.rand(stimuli, 3, height, width or height, generator=torch.Generator().manual_seed(0))


def normalised(inputs):
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])
    return (inputs - mean[:, None, None]) / std[:, None, None]


def feature_maps(kind, inputs):
    """What transformers itself gives for every stage of a model, by its backbone or, without one, its hidden states."""
    from transformers import MODEL_FOR_BACKBONE_MAPPING, AutoConfig, AutoModel

    if kind in ("vit", "deit"):
        network = AutoModel.from_pretrained(tiny_model(kind)).eval()
        held = network(inputs, output_hidden_states=True, interpolate_pos_encoding=True).hidden_states
        grid, leading = [side // 8 for side in inputs.shape[-2:]], 2 if kind == "deit" else 1
        return [state[:, leading:].permute(0, 2, 1).reshape(len(inputs), -1, *grid) for state in held]
    config = AutoConfig.from_pretrained(tiny_model(kind))
    config.out_features = list(config.stage_names)
    network = MODEL_FOR_BACKBONE_MAPPING[type(config)].from_pretrained(tiny_model(kind), config=config).eval()
    return network(inputs).feature_maps


@pytest.mark.parametrize("kind", TRIED)
def test_blocks_equal_those_of_transformers(kind):
    network, blocks = build("autobackbone", tiny_model(kind))
    inputs = images(56, 84)
    with torch.no_grad():
        expected = feature_maps(kind, normalised(inputs))
        assert len(expected) == blocks
        for found, map_ in zip(network.forward_blocks(inputs, range(blocks)), expected, strict=True):
            torch.testing.assert_close(found, map_, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", TRIED)
def test_no_stage_runs_beyond_the_deepest_asked(kind):
    network, blocks = build("autobackbone", tiny_model(kind))
    ran = []
    layers = network.network.get_submodule(FAMILIES[kind].layers)
    for place, layer in enumerate(layers):
        layer.register_forward_hook(lambda *_, place=place: ran.append(place))
    for block in range(blocks):
        ran.clear()
        network.forward_blocks(images(56), [block])
        assert ran == list(range(block))


@pytest.mark.parametrize("kind", FAMILIES)
def test_defaults_where_the_configuration_is_silent(kind, tmp_path):
    """The library's own default number of stages, for a file that names its type only."""
    from transformers import AutoConfig

    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    expected = AutoConfig.from_pretrained(tmp_path)
    stages = len(expected.depths) if hasattr(expected, "depths") else expected.num_hidden_layers
    assert BACKBONES["autobackbone"].block_count({"model": str(tmp_path)}) == stages + 1


@pytest.mark.parametrize("kind", ["resnet", "dinov2", "swin"])
def test_untrained_twin_has_the_librarys_own_initialisation(kind):
    from transformers import MODEL_FOR_BACKBONE_MAPPING, AutoConfig

    config = AutoConfig.from_pretrained(tiny_model(kind))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        expected = MODEL_FOR_BACKBONE_MAPPING[type(config)](config).state_dict()
    found = build("autobackbone", tiny_model(kind), seed=7, weights="random")[0].network.state_dict()
    names = [name for name in expected if "norm" not in name]  # our Swin has a norm for every stage
    assert names
    for name in names:
        assert torch.equal(found[name], expected[name])


@pytest.mark.parametrize("pooling", ["mean", "max", "class", "projection"])
def test_pooled_blocks(pooling):
    inputs = images(56)
    with torch.no_grad():
        pooled = build("autobackbone", tiny_model("vit"), pooling=pooling, dimensions=9)[0].forward_blocks(inputs, [2])
        state = feature_states("vit", inputs)[2]
    expected = {"mean": state[:, 1:].mean(dim=1), "max": state[:, 1:].amax(dim=1), "class": state[:, 0]}
    assert pooled[0].shape == (2, 9 if pooling == "projection" else 32, 1, 1)
    if pooling in expected:
        torch.testing.assert_close(pooled[0][..., 0, 0], expected[pooling], rtol=1e-4, atol=1e-5)


def feature_states(kind, inputs):
    from transformers import AutoModel

    network = AutoModel.from_pretrained(tiny_model(kind)).eval()
    return network(normalised(inputs), output_hidden_states=True, interpolate_pos_encoding=True).hidden_states


@pytest.mark.parametrize("kind", ["resnet", "convnext", "swin"])
def test_networks_without_class_tokens_are_refused_where_their_blocks_are_counted(kind):
    own = {"model": tiny_model(kind), "pooling": "class"}
    with pytest.raises(ValueError, match=f"pooling `class` needs a class token, which a {kind} has not"):
        BACKBONES["autobackbone"].block_count(own)
    with pytest.raises(ValueError, match="needs a class token"):
        build("autobackbone", **own)
    assert BACKBONES["autobackbone"].block_count(own | {"model": tiny_model("vit")}) == 4


@pytest.mark.parametrize("kind", ["convnext", "convnextv2"])
def test_images_that_strides_leave_nothing_of(kind):
    """Strides 4, 4, 8 and 16 at the blocks of three stages."""
    network, blocks = build("autobackbone", tiny_model(kind))
    for block, least in zip(range(blocks), (4, 4, 8, 16), strict=True):
        assert network.forward_blocks(images(least, 40), [0, block])[1].shape[2] == 1
        problem = rf"\({least - 1}, 40\) pixels are too small for block {block} of a ConvNeXt: .* {least} pixels"
        with pytest.raises(ValueError, match=problem):
            network.forward_blocks(images(least - 1, 40), [0, block])
    with pytest.raises(ValueError, match="block 9 does not exist"):
        network.forward_blocks(images(40), [9])


@pytest.mark.parametrize("name", ["autobackbone", "clip-vision", "bridgetower-vision"])
def test_images_smaller_than_a_patch(name):
    kind = {"autobackbone": "dinov2", "clip-vision": "clip"}.get(name, "bridgetower")
    with pytest.raises(ValueError, match="smaller than one patch"):
        build(name, tiny_model(kind))[0].forward_blocks(images(6), [0])


def test_gradients_reach_the_images():
    inputs = images(56).requires_grad_()
    build("clip-vision", tiny_model("clip"))[0].forward_blocks(inputs, [2, 4])[1].sum().backward()
    assert inputs.grad.abs().sum() > 0


@pytest.mark.parametrize("size", [32, 56])
@pytest.mark.parametrize("normalise", [False, True])
def test_clip_vision_equals_transformers(size, normalise):
    from transformers import CLIPModel

    inputs = images(size)
    network, blocks = build("clip-vision", tiny_model("clip"), normalise=normalise, pooling="class")
    clip = CLIPModel.from_pretrained(tiny_model("clip")).eval()
    options = {"interpolate_pos_encoding": True}
    with torch.no_grad():
        found = network.forward_blocks(inputs, range(blocks))
        states = clip.vision_model(normalised(inputs), output_hidden_states=True, **options).hidden_states
        embedding = clip.visual_projection(clip.vision_model(normalised(inputs), **options).pooler_output)
    assert blocks == len(states) + 1
    for value, state in zip(found, states, strict=False):
        torch.testing.assert_close(value[..., 0, 0], state[:, 0], rtol=1e-4, atol=1e-5)
    expected = embedding / embedding.norm(dim=1, keepdim=True) if normalise else embedding
    torch.testing.assert_close(found[-1][..., 0, 0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("weights", ["pretrained", "random"])
@pytest.mark.parametrize("told", [None, 512])
def test_the_length_of_clips_embedding_is_told_at_the_top_of_its_configuration(tmp_path, told, weights):
    """Published files leave the towers' own keys out, or at the default of 512, whatever the length is."""
    shutil.copytree(tiny_model("clip"), tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["projection_dim"] == 24
    for tower in ("vision_config", "text_config"):
        config[tower] = {key: value for key, value in config[tower].items() if key != "projection_dim"}
        config[tower] |= {} if told is None else {"projection_dim": told}
    (tmp_path / "config.json").write_text(json.dumps(config))
    seeing, blocks = build("clip-vision", str(tmp_path), weights=weights)
    assert seeing.forward_blocks(images(32), [blocks - 1])[0].shape == (2, 24, 1, 1)
    reading, blocks = build("clip-text", str(tmp_path), weights=weights)
    assert reading.forward_texts(["a red car", "two dogs"], [blocks - 1])[0].shape == (2, 24)


def test_a_single_tower_of_clip_has_its_own_length(tmp_path):
    from transformers import CLIPVisionModelWithProjection

    CLIPVisionModelWithProjection.from_pretrained(tiny_model("clip"), projection_dim=24).save_pretrained(tmp_path)
    inputs = images(32)
    whole, alone = (build("clip-vision", model)[0] for model in (tiny_model("clip"), str(tmp_path)))
    torch.testing.assert_close(alone.forward_blocks(inputs, [4])[0], whole.forward_blocks(inputs, [4])[0])


def bridgetower_states(inputs, texts):
    """Hidden states of the whole network of transformers: of texts, of images, and of both after crossing."""
    from transformers import AutoTokenizer, BridgeTowerModel

    folder = tiny_model("bridgetower")
    network, tokenizer = BridgeTowerModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    encoded = tokenizer(texts, padding=True, return_tensors="pt")
    names = {"input_ids": encoded["input_ids"], "attention_mask": encoded["attention_mask"]}
    with torch.no_grad():
        output = network(
            **names, pixel_values=normalised(inputs), output_hidden_states=True, interpolate_pos_encoding=True
        )
    return output.hidden_states, encoded["attention_mask"]


def test_bridgetower_of_images_equals_transformers_with_the_empty_text():
    inputs = images(40, 56)
    network, blocks = build("bridgetower-vision", tiny_model("bridgetower"))
    (_, own, crossed), _ = bridgetower_states(inputs, ["", ""])
    expected = [state.transpose(0, 1) for state in own] + [pair[1] for pair in crossed]
    with torch.no_grad():
        found = network.forward_blocks(inputs, range(blocks))
    assert len(expected) == blocks
    for value, state in zip(found, expected, strict=True):
        torch.testing.assert_close(value, state[:, 1:].transpose(1, 2).reshape(2, 64, 5, 7), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("asked", [[3], [4], [4, 5], [6, 0, 6, 3]])
@pytest.mark.parametrize("side", ["vision", "language"])
def test_bridgetower_runs_no_more_than_asked(side, asked):
    network, blocks = build(f"bridgetower-{side}", tiny_model("bridgetower"))
    show = network.forward_blocks if side == "vision" else network.forward_texts
    inputs = images(32) if side == "vision" else ["a red car", "two dogs play"]
    with torch.no_grad():
        every = show(inputs, range(blocks))
        ran = []
        for block, tap in enumerate([*network._layers("layers"), *network._layers("crossed")], start=1):
            tap.register_forward_hook(lambda *_, block=block: ran.append(block))
        some = show(inputs, asked)
    assert max(ran, default=0) == max(asked)
    for block, value in zip(asked, some, strict=True):
        torch.testing.assert_close(value, every[block], rtol=1e-4, atol=1e-5)


def test_taps_that_are_never_passed():
    layers = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    with pytest.raises(RuntimeError, match=r"never came to blocks \[2\]"):
        run_until(lambda: layers[0](torch.ones(2)), chain(layers), [0, 2])
    assert run_until(lambda: pytest.fail("nothing was asked"), [Tap(layers)], []) == {}
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in layers.modules())


def test_errors_inside_the_network_are_passed_on_and_the_hooks_removed():
    layers = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(3, 2))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        run_until(lambda: layers(torch.ones(1, 2)), chain(layers), [2])
    assert not any(module._forward_hooks for module in layers.modules())


def test_pixel_statistics(tmp_path):
    write = lambda name, content: (tmp_path / name).write_text(json.dumps(content))  # noqa: E731
    write("config.json", {"model_type": "vit"})
    assert pixel_statistics(str(tmp_path)) == STATISTICS
    write("processor_config.json", {"image_processor": {"image_mean": [0.5] * 3, "image_std": [0.25] * 3}})
    assert pixel_statistics(str(tmp_path)) == PixelStatistics((0.5,) * 3, (0.25,) * 3)
    pixels = torch.tensor([0.0, 51.0, 255.0])[:, None, None].expand(3, 2, 2)  # a value per channel
    own = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.5] * 3}
    for told, expected in (
        (own, lambda p: 2 * (p / 255) - torch.tensor([0.2, 0.4, 0.6])),
        ({"image_mean": [1.0] * 3, "image_std": [1.0] * 3, "rescale_factor": 1 / 127.5}, lambda p: p / 127.5 - 1),
        ({"image_mean": [128.0] * 3, "image_std": [64.0] * 3, "do_rescale": False}, lambda p: (p - 128) / 64),
        ({"do_normalize": False}, lambda p: p / 255),
    ):
        write("preprocessor_config.json", told)
        found = pixel_statistics(str(tmp_path)).apply(pixels[None] / 255)[0, :, 0, 0]
        torch.testing.assert_close(found, expected(pixels[:, 0, 0]))
    write("preprocessor_config.json", {"image_mean": 0.5, "image_std": [0.5] * 3})
    with pytest.raises(ValueError, match=r"image_mean of its image processor must be 3 numbers; got 0\.5"):
        pixel_statistics(str(tmp_path))


def test_the_backbone_uses_the_models_own_statistics(tmp_path):
    shutil.copytree(tiny_model("vit"), tmp_path, dirs_exist_ok=True)
    told = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(told))
    plain, changed = (build("autobackbone", model)[0] for model in (tiny_model("vit"), str(tmp_path)))
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[:, :, None, None]
    inputs = images(32)
    same = (2 * inputs - 1) * std + mean
    torch.testing.assert_close(changed.forward_blocks(inputs, [1])[0], plain.forward_blocks(same, [1])[0])


def test_fingerprint_is_of_contents(tmp_path):
    first, moved = tmp_path / "first", tmp_path / "elsewhere" / "moved"
    shutil.copytree(tiny_model("resnet"), first)
    shutil.copytree(tiny_model("resnet"), moved)
    (moved / "README.md").write_text("not part of the model")
    told = [fingerprint({"model": str(folder), "weights": "pretrained"}) for folder in (first, moved)]
    untrained = fingerprint({"model": str(first), "weights": "random"})
    assert told[0] == told[1] != untrained
    weights = load_file(moved / "model.safetensors")
    name = next(iter(weights))
    weights[name] = weights[name] + 1e-3  # as many bytes as before
    save_file(weights, moved / "model.safetensors", metadata={"format": "pt"})
    assert fingerprint({"model": str(moved), "weights": "pretrained"}) != told[0]
    assert fingerprint({"model": str(moved), "weights": "random"}) == untrained


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "has no config.json"),
        ("{", "config.json is no JSON file"),
        ("[]", "must hold a JSON object, not list"),
        ('{"model_type": "bert"}', "model_type 'bert'; allowed: resnet, convnext"),
        ('{"model_type": "vit", "num_hidden_layers": 0}', "num_hidden_layers must be a whole number above 0; got 0"),
    ],
)
def test_folders_that_are_no_model(tmp_path, content, problem):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(ValueError, match=problem) as told:
        BACKBONES["autobackbone"].block_count({"model": str(tmp_path)})
    assert str(tmp_path) in str(told.value)


@pytest.mark.parametrize("model", [None, "", "/nowhere/at/all", "./nowhere", "two words"])
def test_names_that_no_model_has(model):
    with pytest.raises(ValueError, match="folder"):
        BACKBONES["language"].block_count({"model": model})


def test_weights_that_cannot_be_used(tmp_path):
    shutil.copytree(tiny_model("vit"), tmp_path, dirs_exist_ok=True)
    weights = load_file(tmp_path / "model.safetensors")
    weights.pop("vit.layernorm.weight")
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"its weights lack 1 parameters, layernorm\.weight"):
        build("autobackbone", str(tmp_path))
    (tmp_path / "model.safetensors").unlink()
    torch.save(weights, tmp_path / "pytorch_model.bin")  # a pickle is never read
    with pytest.raises(ValueError, match=r"its weights cannot be loaded: .*safetensors"):
        build("autobackbone", str(tmp_path))
    build("autobackbone", str(tmp_path), weights="random")


def test_code_that_comes_with_a_model_is_never_run(tmp_path):
    shutil.copytree(tiny_model("gpt2"), tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text())
    told = config | {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config", "AutoModel": "mine.Model"}}
    (tmp_path / "config.json").write_text(json.dumps(told))
    (tmp_path / "mine.py").write_text("raise SystemExit('foreign code was run')\n")
    with pytest.raises(ValueError, match="its configuration cannot be read"):
        build("language", str(tmp_path))


def test_the_driver_needs_no_torch():
    models = {name: tiny_model(kind) for name, kind in DRIVEN.items()}
    code = (
        "import sys; from models.backbones import BACKBONES\n"
        "from models.backbones.transformers.hub_files import fingerprint\n"
        f"for name, model in {models!r}.items():\n"
        f"    print(name, BACKBONES[name].block_count({{'model': model}}), len(fingerprint({{'model': model}})))\n"
        f"assert not {{'torch', 'numpy', 'transformers'}} & set(sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert told[0::3] == list(DRIVEN)
    assert told[1::3] == ["4", "5", "5", "7", "7", "4"]
    assert set(told[2::3]) == {"64"}


DRIVEN = {
    "autobackbone": "resnet",
    "clip-vision": "clip",
    "clip-text": "clip",
    "bridgetower-vision": "bridgetower",
    "bridgetower-language": "bridgetower",
    "language": "gpt2",
}


COMMIT = "0123456789abcdef0123456789abcdef01234567"
OFFLINE = f"""
import socket
def refuse(*arguments): raise AssertionError("a connection was opened")
socket.socket.connect = refuse
from models.backbones import BACKBONES
from models.backbones.transformers.hub_files import fingerprint
component = BACKBONES["autobackbone"]
own = {{key: held.default for key, held in component.parameters.items()}} | {{"model": "lab/tiny"}}
print(fingerprint(own), component.block_count(own))
print(fingerprint(own | {{"model": "lab/tiny@{COMMIT}"}}))
try: component.block_count(own | {{"model": "lab/other"}})
except ValueError as error: print(error)
"""
RUN = """
import torch
print(component.load()(own, 0).forward_blocks(torch.zeros(1, 3, 16, 16), [3])[0].shape)
"""


@pytest.mark.parametrize("loaded", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_model_of_the_hub_from_the_cache_offline(tmp_path, loaded):
    """A cache as huggingface_hub lays it out, with a commit, read without any connection."""
    cached = tmp_path / "models--lab--tiny"
    shutil.copytree(tiny_model("vit"), cached / "snapshots" / COMMIT)
    (cached / "snapshots" / COMMIT / "preprocessor_config.json").write_text('{"do_normalize": false}')
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(COMMIT)
    environment = {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path), "OMP_NUM_THREADS": "1", "PATH": ""}
    command = [sys.executable, "-c", OFFLINE + (RUN if loaded else "")]
    told = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout.splitlines()
    assert told[0] == f"lab/tiny@{COMMIT} 4"
    assert told[1] == f"lab/tiny@{COMMIT}"
    assert told[2].startswith("model lab/other@main: config.json cannot be had")
    assert told[3:] == (["torch.Size([1, 32, 2, 2])"] if loaded else [])


class Bare(BaseHTTPRequestHandler):
    """A hub whose only file is config.json of lab/bare; it says of every other that there is no such entry."""

    content = b'{"model_type": "vit"}'

    def do_HEAD(self):
        there = self.path == "/lab/bare/resolve/main/config.json"
        self.send_response(200 if there else 404)
        self.send_header("X-Repo-Commit", COMMIT)
        for name, value in ({"ETag": '"bare"'} if there else {"X-Error-Code": "EntryNotFound"}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(self.content) if there else 0))
        self.end_headers()
        if there and self.command == "GET":
            self.wfile.write(self.content)

    do_GET = do_HEAD

    def log_message(self, *arguments):
        """Say nothing."""


@contextmanager
def bare_hub():
    with ThreadingHTTPServer(("127.0.0.1", 0), Bare) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


ASKED = """
from models.backbones.transformers.hub_files import PixelStatistics, pixel_statistics
try: print(pixel_statistics("lab/bare") == PixelStatistics())
except ValueError as error: print(error)
"""


def test_a_model_of_the_hub_without_statistics_has_those_of_imagenet(tmp_path):
    """The hub says that there is no such file; offline nothing can be known of a file outside the cache."""
    shared = {"HF_HUB_CACHE": str(tmp_path), "HF_HOME": str(tmp_path), "PATH": ""}

    def told(code, **settings):
        command = [sys.executable, "-c", code]
        return subprocess.run(command, check=True, capture_output=True, text=True, env=shared | settings).stdout

    with bare_hub() as address:
        assert told(ASKED, HF_ENDPOINT=address) == "True\n"
        count = (
            "from models.backbones.transformers.hub_files import stage_count; print(stage_count({'model': 'lab/bare'}))"
        )
        assert told(count, HF_ENDPOINT=address) == "13\n"
    assert list(Path(tmp_path).glob("models--lab--bare/snapshots/*/config.json"))
    offline = told(ASKED, HF_HUB_OFFLINE="1")
    assert "preprocessor_config.json cannot be had (LocalEntryNotFoundError" in offline
