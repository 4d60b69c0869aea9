"""Backbones that see texts, against the library's own outputs of one text at a time."""

import shutil

import pytest
import torch
from safetensors.torch import load, save
from tiny_models import SENTENCE, tiny_model

from models.backbones import BACKBONES
from models.backbones.transformers.language import Reader

torch.set_num_threads(1)

TEXTS = ["a red car stands in the street", "two dogs", "it rains on every old house near the tree"]
OTHERS = [pytest.param(kind, marks=pytest.mark.slow) for kind in ("roberta", "distilbert", "llama")]
READERS = {"language": "gpt2", "clip-text": "clip", "bridgetower-language": "bridgetower"}
"""Backbones that see texts, and the tiny model that each is tried with."""


def build(name, kind=None, seed=0, **changes):
    parameters = {key: parameter.default for key, parameter in BACKBONES[name].parameters.items()}
    parameters |= {"model": tiny_model(kind or READERS[name]), **changes}
    return BACKBONES[name].load()(parameters, seed), BACKBONES[name].block_count(parameters)


def encoded(kind, text):
    from transformers import AutoTokenizer

    return {"input_ids": AutoTokenizer.from_pretrained(tiny_model(kind))(text, return_tensors="pt")["input_ids"]}


def test_every_backbone_of_texts_is_tested_here():
    assert set(READERS) == {name for name, component in BACKBONES.items() if component.sees == "texts"}


@pytest.mark.parametrize("token", ["last", "mean"])
@pytest.mark.parametrize("kind", ["gpt2", "bert", *OTHERS])
def test_language_models_equal_transformers(kind, token):
    """Texts of different lengths in one batch, against each alone and so without padding."""
    from transformers import AutoModel

    network, blocks = build("language", kind, token=token)
    library = AutoModel.from_pretrained(tiny_model(kind)).eval()
    with torch.no_grad():
        found = network.forward_texts(TEXTS, range(blocks))
        for row, text in enumerate(TEXTS):
            states = library(**encoded(kind, text), output_hidden_states=True).hidden_states
            assert len(states) == blocks
            for value, state in zip(found, states, strict=True):
                expected = state[0, -1] if token == "last" else state[0].mean(dim=0)
                torch.testing.assert_close(value[row], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("normalise", [False, True])
def test_clip_text_equals_transformers(normalise):
    from transformers import CLIPModel

    network, blocks = build("clip-text", token="mean", normalise=normalise)
    clip = CLIPModel.from_pretrained(tiny_model("clip")).eval()
    with torch.no_grad():
        found = network.forward_texts(TEXTS, range(blocks))
        for row, text in enumerate(TEXTS):
            output = clip.text_model(**encoded("clip", text), output_hidden_states=True)
            for value, state in zip(found, output.hidden_states, strict=False):
                torch.testing.assert_close(value[row], state[0].mean(dim=0), rtol=1e-4, atol=1e-5)
            embedding = clip.text_projection(output.pooler_output)[0]
            expected = embedding / embedding.norm() if normalise else embedding
            torch.testing.assert_close(found[-1][row], expected, rtol=1e-4, atol=1e-5)
    assert blocks == len(output.hidden_states) + 1


def test_clip_embeds_pictures_and_texts_in_one_space():
    """The cosines that CLIP's own forward gives for pictures and texts (its logits without the learned scale)."""
    from transformers import CLIPModel

    pictures, _ = build_vision()
    inputs = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    clip = CLIPModel.from_pretrained(tiny_model("clip")).eval()
    with torch.no_grad():
        left = pictures.forward_blocks(inputs, [4])[0][:, :, 0, 0]
        right = build("clip-text", normalise=True)[0].forward_texts(TEXTS[:1], [4])[0]
        pixels = pictures.statistics.apply(inputs)
        logits = clip(pixel_values=pixels, **encoded("clip", TEXTS[0])).logits_per_image / clip.logit_scale.exp()
    torch.testing.assert_close(left @ right.T, logits, rtol=1e-4, atol=1e-5)


def build_vision():
    parameters = {key: parameter.default for key, parameter in BACKBONES["clip-vision"].parameters.items()}
    parameters |= {"model": tiny_model("clip"), "normalise": True}
    return BACKBONES["clip-vision"].load()(parameters, 0), 5


@pytest.mark.parametrize("token", ["first", "last", "mean"])
def test_bridgetower_of_texts_equals_transformers_with_a_grey_picture(token):
    from transformers import BridgeTowerModel

    network, blocks = build("bridgetower-language", token=token)
    library = BridgeTowerModel.from_pretrained(tiny_model("bridgetower")).eval()
    grey = ((0.5 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225]))[None, :, None, None]
    with torch.no_grad():
        found = network.forward_texts(TEXTS, range(blocks))
        for row, text in enumerate(TEXTS):
            told = encoded("bridgetower", text) | {"pixel_values": grey.expand(1, 3, 32, 32)}
            own, _, crossed = library(**told, output_hidden_states=True).hidden_states
            states = [*own, *(pair[0] for pair in crossed)]
            assert len(states) == blocks
            for value, state in zip(found, states, strict=True):
                expected = {"first": state[0, 0], "last": state[0, -1], "mean": state[0].mean(dim=0)}[token]
                torch.testing.assert_close(value[row], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", READERS)
def test_contract(name):
    network, blocks = build(name)
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    every = network.forward_texts(TEXTS, range(blocks))
    some = network.forward_texts(TEXTS, [blocks - 1, 0, blocks - 1])
    for value, block in zip(some, [blocks - 1, 0, blocks - 1], strict=True):
        torch.testing.assert_close(value, every[block])
    assert network.forward_texts(TEXTS, []) == []
    assert all(value.shape[0] == 3 and value.ndim == 2 and value.dtype == torch.float32 for value in every)
    assert all(float(value.std(dim=0).mean()) > 1e-3 for value in every)
    for block in (-1, 99):
        with pytest.raises(ValueError, match=f"block {block} does not exist: blocks are 0 to {blocks - 1}"):
            network.forward_texts(TEXTS, [block])
    for wrong in ("one text", [None]):
        with pytest.raises(TypeError, match="takes a sequence of texts"):
            network.forward_texts(wrong, [0])


@pytest.mark.parametrize("name", READERS)
def test_no_deeper_than_asked(name):
    network, blocks = build(name)
    calls = []
    for module in network.modules():
        if not list(module.children()):
            module.register_forward_hook(lambda *_: calls.append(1))
    counts = []
    for block in range(blocks):
        calls.clear()
        network.forward_texts(TEXTS, [block])
        counts.append(len(calls))
    assert sorted(set(counts)) == counts


@pytest.mark.parametrize("name", READERS)
def test_seed_and_state(name):
    state = torch.random.get_rng_state()
    one, same, other = (build(name, seed=seed, weights="random")[0] for seed in (0, 0, 1))
    fixed = [build(name, seed=seed)[0] for seed in (0, 1)]
    assert torch.equal(torch.random.get_rng_state(), state)
    last = [build(name)[1] - 1]
    vectors = [network.forward_texts(TEXTS, last)[0] for network in (one, same, other, *fixed)]
    assert torch.equal(vectors[0], vectors[1])
    assert not torch.allclose(vectors[0], vectors[2])
    assert torch.equal(vectors[3], vectors[4])
    assert not torch.allclose(vectors[0], vectors[3])
    other.load_state_dict(load(save({key: value.contiguous() for key, value in one.state_dict().items()})))
    torch.testing.assert_close(other.forward_texts(TEXTS, last)[0], vectors[0])


@pytest.mark.parametrize(
    ("kind", "longest"), [("gpt2", 24), ("bert", 24), pytest.param("roberta", 21, marks=pytest.mark.slow)]
)
def test_of_a_long_text_the_end_is_read(kind, longest):
    network, blocks = build("language", kind)
    words = (SENTENCE + " ").split(" ")[:20] * 3
    markers = 0 if kind == "gpt2" else 2
    with torch.no_grad():
        long, kept, start = (
            network.forward_texts([" ".join(part)], [blocks - 1])[0]
            for part in (words, words[-(longest - markers) :], words[: longest - markers])
        )
    torch.testing.assert_close(long, kept)
    assert not torch.allclose(long, start)


def test_of_a_long_caption_clip_reads_the_start():
    network, blocks = build("clip-text")
    words = SENTENCE.split()
    with torch.no_grad():
        long, kept = (network.forward_texts([" ".join(part)], [blocks - 1])[0] for part in (words, words[:14]))
    torch.testing.assert_close(long, kept)


def test_a_text_without_tokens_is_refused():
    with pytest.raises(ValueError, match="text 1 of these 2 has no tokens"):
        build("language", "gpt2")[0].forward_texts(["two dogs", ""], [1])
    assert build("language", "bert")[0].forward_texts(["two dogs", ""], [1])[0].isfinite().all()


def test_models_of_two_stacks_are_refused(tmp_path):
    from transformers import T5Config

    T5Config(num_layers=2, d_model=16).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="a t5 cannot be read as a language model of one stack"):
        build("language", model=str(tmp_path))


def test_number_of_layers_must_be_told(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(ValueError, match="num_layers or n_layers must be a whole number above 0; got None"):
        BACKBONES["language"].block_count({"model": str(tmp_path)})


def test_a_model_without_a_tokenizer(tmp_path):
    from transformers import BertConfig

    shutil.copytree(tiny_model("bert"), tmp_path, dirs_exist_ok=True)
    for file in tmp_path.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(ValueError, match="its tokenizer cannot be loaded"):
        Reader(str(tmp_path), BertConfig.from_pretrained(tmp_path), keep="end")
