"""How wide a pooling window is at which distance from fixation, and what an eccentric backbone wraps; no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SLOPES = (0.0, 0.0, 0.07, 0.16, 0.32)
"""Degrees of window per degree of eccentricity for pooling layers 1 to 5, from the code of Gupta et al. 2021."""

PLAIN = 2
"""Window of a pooling layer without eccentricity, in pixels of its input."""

FINEST = 2.0
"""Degrees of fewer input pixels than this are not rounded to whole pixels."""


@dataclass(frozen=True)
class Regions:
    """Regions of a map around its centre, from the fovea outward: outer radii and pooling windows.

    `radii` are in pixels of the pooled map, the last is infinite; `windows` in pixels of the map that is pooled.
    """

    radii: tuple[float, ...]
    windows: tuple[int, ...]


def pixels_in_degree(layer: int, pixels_per_degree: float = 30.0) -> float:
    """Pixels of the input of pooling layer `layer` (1 to 5) in one degree: round(pixels_per_degree / 2^(layer-1)).

    Edge rule: below 2 it stays unrounded, which is a choice of ours: at 30 pixels per degree nothing changes, at
    coarser ones rounding would move the fovea by up to a half.

    >>> [pixels_in_degree(layer) for layer in range(1, 6)]
    [30.0, 15.0, 8.0, 4.0, 2.0]
    """
    if not 1 <= layer <= len(SLOPES):
        raise ValueError(f"layer must be 1 to {len(SLOPES)}; got {layer}")
    if not pixels_per_degree > 0:
        raise ValueError(f"pixels_per_degree must be above 0; got {pixels_per_degree}")
    exact = pixels_per_degree / 2 ** (layer - 1)
    rounded = float(round(exact))
    return rounded if rounded >= FINEST else exact


def eccentric_windows(
    input_side: int,
    layer: int,
    pixels_per_degree: float = 30.0,
    scale: float = 1.0,
    fovea: float = 4.0,
    ring: float = 1.0,
) -> Regions:
    """Windows of pooling layer `layer` for a display of `input_side` pixels that is fixated at its centre.

    g = pixels_in_degree(layer). Fovea: radius round(fovea g / 2) pixels of the pooled map, window 2. Rings go outward
    in steps of round(ring g / 2) while their outer radius rho is below half the map's side; ring and, at the next rho,
    everything outside have the window 2 + round(scale slope (2 rho - fovea g)).
    Units: `input_side` pixels, `fovea` and `ring` degrees; `scale` multiplies the published slopes 0, 0, .07, .16, .32.
    Edge rule: a step is at least one pixel. As coded `fovea` is a radius: 2 rho is the outer radius in pixels of the
    layer's input, so the default's uniform centre reaches 4 degrees to each side, not 2.
    Source: code of Gupta et al. 2021; how the printed equation means its fovea is not known to us.

    >>> eccentric_windows(524, 5).windows
    (2, 3, 3, 4, 5, 5)
    """
    for name, value, least in (("input_side", input_side, 1), ("scale", scale, 0), ("fovea", fovea, 0)):
        if not value >= least:
            raise ValueError(f"{name} must be {least} or more; got {value}")
    degree, half = pixels_in_degree(layer, pixels_per_degree), pooled_side(input_side, layer) / 2
    slope, step = scale * SLOPES[layer - 1], max(1, round(ring * degree / 2))
    radii, windows = [float(round(fovea * degree / 2))], [PLAIN]
    while True:
        outer = radii[-1] + step
        windows.append(PLAIN + max(0, round(slope * (2 * outer - fovea * degree))))
        if outer >= half:
            return Regions((*radii, float("inf")), tuple(windows))
        radii.append(outer)


def pooled_side(side: int, layers: int) -> int:
    """Side of a map after `layers` poolings of stride 2, each rounding up.

    >>> [pooled_side(806, layers) for layers in range(6)]
    [806, 403, 202, 101, 51, 26]
    """
    return -(-side // 2**layers)


def wrapped(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of the backbone that an `eccentric` one wraps.

    Raises ValueError for weights that this backbone does not have, and for a preprocessing where it has its own.
    """
    from models.backbones import BACKBONES

    component = BACKBONES[parameters["base"]]
    chosen = {name: parameters[name] for name in ("weights", "pooling", "preprocessing")}
    if "preprocessing" not in component.parameters and chosen["preprocessing"] != "torch":
        raise ValueError(f"preprocessing of {parameters['base']} is its own: it must be left out")
    for name, value in chosen.items():
        parameter = component.parameters.get(name)
        if parameter is not None and not parameter.accepts(value):
            raise ValueError(f"{name} of {parameters['base']} must be {parameter.allowed()}; got {value!r}")
    return {name: chosen.get(name, parameter.default) for name, parameter in component.parameters.items()}


def block_count(parameters: Mapping[str, Any]) -> int:
    """How many blocks an `eccentric` backbone has: those of its base."""
    from models.backbones import BACKBONES

    return BACKBONES[parameters["base"]].block_count(wrapped(parameters))
