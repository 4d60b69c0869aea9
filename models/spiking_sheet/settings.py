"""The numbers of one sheet, with their units, checked before anything is simulated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class SheetSettings:
    """Constants of a sheet; lengths are in cells (the spacing of the grid), times in ms, rates in Hz.

    All of them are choices of ours; `models.backbones.BACKBONES["sheet"]` holds the defaults.

    side:              the sheet is side x side neurons
    pixels:            the image is averaged to pixels x pixels, an on- and an off-centre input for each
    in_degree, out_degree: plastic synapses at most that a neuron receives, and that a neuron or input sends
    wiring_cost:       lambda, value of a synapse = weight - lambda * length
    growth_range:      sigma_g, new synapses come from within about this distance
    excitation, inhibition: sigma_e < sigma_i, reach of the fixed lateral kernel
    asymmetry:         A- / A+ of STDP
    rate, homeostasis: r*, the rate that thresholds hold, and eta, their step for one spike
    presentation, gap, step: how long a picture is shown, the silence after it, and dt
    plastic:           False keeps the first wiring and its weights; thresholds still adapt
    """

    side: int
    pixels: int
    in_degree: int
    out_degree: int
    wiring_cost: float
    growth_range: float
    excitation: float
    inhibition: float
    asymmetry: float
    rate: float
    homeostasis: float
    presentation: float
    gap: float
    step: float
    pictures: int
    plastic: bool

    def __post_init__(self) -> None:
        if not self.excitation < self.inhibition:
            raise ValueError(
                f"lateral excitation must reach less far than inhibition: "
                f"excitation {self.excitation:g} cells, inhibition {self.inhibition:g} cells"
            )
        if self.presentation < self.step:
            raise ValueError(f"a presentation of {self.presentation:g} ms is shorter than one step of {self.step:g} ms")

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> SheetSettings:
        """The settings that the parameters of `models.backbones.BACKBONES["sheet"]` ask for."""
        own = {key: parameters[key] for key in cls.__dataclass_fields__ if key != "plastic"}
        return cls(**own, plastic=parameters["rule"] == "stdp")

    @property
    def neurons(self) -> int:
        """Neurons on the sheet."""
        return self.side**2

    @property
    def inputs(self) -> int:
        """On- and off-centre inputs."""
        return 2 * self.pixels**2

    @property
    def shown(self) -> int:
        """Steps of one presentation."""
        return round(self.presentation / self.step)

    @property
    def silent(self) -> int:
        """Steps of the gap after it."""
        return round(self.gap / self.step)

    def learning_seconds(self, pictures: int) -> float:
        """Simulated seconds that learning from so many pictures takes, gaps included."""
        return pictures * (self.shown + self.silent) * self.step / 1000.0
