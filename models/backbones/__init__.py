"""The backbones by name: one file and one line in `BACKBONES` each. Importing this imports no torch.

Every backbone of images is a `torch.nn.Module` made by `Class(parameters, seed)` with

    forward_blocks(images, blocks) -> list[Tensor]

images (stimuli, 3, height, width) float32 in [0, 1], red green blue -> one map (stimuli, channels, h, w) for
each asked block, in the asked order. It normalises its input itself and computes no block deeper than the
deepest that is asked. Frozen ones are in evaluation mode and need no gradient; a map may lie in memory with
its channels last. A backbone that sees texts has `forward_texts(texts, blocks)` instead: a list of texts -> one
tensor (texts, channels) for each asked block, by the same rules.
"""

from __future__ import annotations

from models.backbones.cores.channels import CHANNELS
from models.backbones.transformers.declarations import HUB
from models.component import Component, Parameter

WEIGHTS = ("weights", "models.backbones.file_digest:of_weights")
NOT_ECCENTRIC = {"slopes_scale": (0,)}

BACKBONES: dict[str, Component] = {
    "efficientnet-lite0": Component(
        target="models.backbones.efficientnet_lite:EfficientNetLite0",
        version=1,
        parameters={"weights": Parameter("imagenet", "str", words=("imagenet", "random"))},
        blocks=16,
        seeded={"weights": ("random",)},
        summary="the 16 blocks of EfficientNet-lite0, trained on ImageNet or left random",
    ),
    "efficientnet-lite1": Component(
        target="models.backbones.efficientnet_lite:EfficientNetLite1",
        version=1,
        parameters={"weights": Parameter("imagenet", "str", words=("imagenet", "random"))},
        blocks=21,
        seeded={"weights": ("random",)},
        summary="the 21 blocks of EfficientNet-lite1, trained on ImageNet or left random",
    ),
    "efficientnet-lite2": Component(
        target="models.backbones.efficientnet_lite:EfficientNetLite2",
        version=1,
        parameters={"weights": Parameter("imagenet", "str", words=("imagenet", "random"))},
        blocks=21,
        seeded={"weights": ("random",)},
        summary="the 21 blocks of EfficientNet-lite2, wider than those of lite1",
    ),
    "pixels": Component(
        target="models.backbones.pixels:Pixels",
        version=1,
        blocks=1,
        summary="the image itself",
    ),
    # No code and no images: the features of that name lie in the recording, one row per stimulus.
    "features": Component(
        target="",
        version=1,
        parameters={"set": Parameter(None, "str")},
        blocks=1,
        sees="features",
        readouts=("ridge", "srp-ridge", "pls", "banded-ridge"),
        idle=("pool",),
        summary="a feature set that comes with the recording; `set`, its name, must be given",
    ),
    "conv": Component(
        target="models.backbones.cores.conv:ConvCore",
        version=2,
        parameters={
            "layers": Parameter(3, "int", low=1, high=8),
            "channels": Parameter(16, "int", low=1),
            "kernel": Parameter(7, "int", low=1, odd=True),
            "smoothness": Parameter(0.0, "float", low=0),
            "learning_rate": Parameter(0.005, "float", positive=True),
            "epochs": Parameter(60, "int", low=1),
            "patience": Parameter(8, "int", low=1),
        },
        blocks="layers",
        trained=True,
        readouts=("gaussian",),
        idle=("learning_rate", "epochs", "patience", "pool"),
        summary="a small convolutional core, trained together with its readouts",
    ),
    "factorised3d": Component(
        target="models.backbones.cores.factorised3d:Factorised3d",
        version=2,
        parameters={
            "channels": Parameter(
                "16-32-64-128-256-128-128-128", "str", pattern=CHANNELS, form="channels of every block such as 16-32-64"
            ),
            "spatial_first": Parameter(11, "int", low=1, odd=True),
            "spatial_then": Parameter(5, "int", low=1, odd=True),
            "temporal_first": Parameter(11, "int", low=1),
            "temporal_then": Parameter(5, "int", low=1),
            "padding": Parameter("causal", "str", words=("causal", "none")),
            "middle_norm": Parameter(True, "bool"),
            "momentum": Parameter(0.01, "float", positive=True, high=1),
            "two_streams": Parameter(False, "bool"),
            "smoothness": Parameter(0.0, "float", low=0),
            "temporal_smoothness": Parameter(0.0, "float", low=0),
            "learning_rate": Parameter(0.005, "float", positive=True),
            "epochs": Parameter(200, "int", low=1),
            "patience": Parameter(8, "int", low=1),
            "decays": Parameter(4, "int", low=0),
            "warmup": Parameter(10, "int", low=0),
            "weight_decay": Parameter(0.01, "float", low=0),
            "batch": Parameter(8, "int", low=1),
            "frames": Parameter(80, "int", low=1),
            "behaviour": Parameter(False, "bool"),
            "gaze": Parameter(False, "bool"),
            "together": Parameter(False, "bool", later=True),
        },
        blocks="models.backbones.cores.channels:factorised_depths",
        frames_back="models.backbones.cores.channels:frames_back",
        sees="clips",
        trained=True,
        readouts=("gaussian", "factorised", "latent"),
        idle=("learning_rate", "epochs", "patience", "pool"),
        summary="convolutions over space, then time, for clips, trained together with its readouts",
    ),
    "stacked2d": Component(
        target="models.backbones.cores.stacked2d:Stacked2d",
        version=2,
        parameters={
            "layers": Parameter(4, "int", low=1, high=16),
            "channels": Parameter(64, "int", low=1),
            "kernel_first": Parameter(9, "int", low=1, odd=True),
            "kernel_then": Parameter(7, "int", low=1, odd=True),
            "smoothness": Parameter(0.0, "float", low=0),
            "learning_rate": Parameter(0.009, "float", positive=True),
            "epochs": Parameter(200, "int", low=1),
            "patience": Parameter(5, "int", low=1),
            "decays": Parameter(3, "int", low=0),
            "batch": Parameter(128, "int", low=1),
            "behaviour": Parameter(False, "bool"),
            "gaze": Parameter(False, "bool"),
            "together": Parameter(False, "bool", later=True),
        },
        blocks="layers",
        trained=True,
        readouts=("gaussian", "factorised"),
        idle=("learning_rate", "epochs", "patience", "pool"),
        summary="the Sensorium 2022 baseline's core: separable convolutions, trained together with its readouts",
    ),
    "sheet": Component(
        target="models.backbones.sheet:SheetBackbone",
        version=1,
        parameters={
            "rule": Parameter("stdp", "str", words=("stdp", "fixed")),
            "layers": Parameter(4, "int", low=1, high=20),
            "bins": Parameter(1, "int", low=1, high=100),
            "side": Parameter(30, "int", low=4, high=100),
            "pixels": Parameter(16, "int", low=2, high=64),
            "in_degree": Parameter(32, "int", low=1, high=1024),
            "out_degree": Parameter(32, "int", low=1, high=1024),
            "wiring_cost": Parameter(0.01, "float", low=0),
            "growth_range": Parameter(3.0, "float", positive=True),
            "excitation": Parameter(1.5, "float", positive=True),
            "inhibition": Parameter(4.0, "float", positive=True),
            "asymmetry": Parameter(1.2, "float", low=0),
            "rate": Parameter(10.0, "float", positive=True),
            "homeostasis": Parameter(0.02, "float", low=0),
            "presentation": Parameter(100.0, "float", positive=True),
            "gap": Parameter(50.0, "float", low=0),
            "step": Parameter(1.0, "float", positive=True, high=10),
            "pictures": Parameter(200, "int", low=1),
            "budget": Parameter(600.0, "float", positive=True),
        },
        blocks="layers",
        learns=True,
        differentiable=False,
        seeded={"rule": ("stdp", "fixed")},
        summary="spike counts of one sheet of neurons that wired itself by STDP, a reference design; depth = hops",
    ),
    "vgg16": Component(
        target="models.backbones.vgg16:Vgg16",
        version=1,
        parameters={
            "weights": Parameter(
                "random", "str", words=("random",), pattern=r".+\.safetensors", form="the path of a .safetensors file"
            ),
            "preprocessing": Parameter("torch", "str", words=("torch", "keras")),
            "pooling": Parameter("max", "str", words=("max", "average")),
        },
        blocks=5,
        content=WEIGHTS,
        seeded={"weights": ("random",)},
        summary="the 5 convolutional blocks of VGG16, random or with weights from a file",
    ),
    "eccentric": Component(
        target="models.backbones.eccentric:Eccentric",
        version=1,
        parameters={
            "base": Parameter(
                "efficientnet-lite0",
                "str",
                words=("vgg16", "efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2"),
            ),
            "weights": Parameter(
                "imagenet",
                "str",
                words=("imagenet", "random"),
                pattern=r".+\.safetensors",
                form="the path of a .safetensors file",
            ),
            "preprocessing": Parameter("torch", "str", words=("torch", "keras")),
            "pooling": Parameter("average", "str", words=("average", "max")),
            "slopes_scale": Parameter(1.0, "float", low=0),
            "fovea": Parameter(4.0, "float", low=0, idle=NOT_ECCENTRIC),
            "ring": Parameter(1.0, "float", positive=True, idle=NOT_ECCENTRIC),
            "pixels_per_degree": Parameter(30.0, "float", positive=True, idle=NOT_ECCENTRIC),
        },
        blocks="models.backbones.eccentricity:block_count",
        content=WEIGHTS,
        seeded={"weights": ("random",)},
        summary="a network whose pooling windows grow with the distance from the image's centre",
    ),
    **HUB,
}
"""Name -> backbone."""
