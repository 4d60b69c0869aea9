"""How a sheet learns: picture after picture, spikes move weights, and now and then the wiring changes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from models.spiking_sheet.encoding import draws, poisson_spikes
from models.spiking_sheet.neurons import lateral_kernel, membrane_step
from models.spiking_sheet.plasticity import TRACE, Traces, normalise, stdp_step, threshold_step
from models.spiking_sheet.settings import SheetSettings
from models.spiking_sheet.wiring import Wiring, draw_excitatory, longest_delay, random_wiring, rewire, sheet_positions

REWIRING = 1000.0
"""T, simulated ms between two rewirings."""


@dataclass
class Sheet:
    """A sheet: places (neurons + inputs, 2), which neurons are excitatory, their wiring and thresholds; float64."""

    positions: Tensor
    excitatory: Tensor
    wiring: Wiring
    threshold: Tensor

    @property
    def sends(self) -> Tensor:
        """Who sends plastic synapses (neurons + inputs,): excitatory neurons and inputs."""
        inputs = len(self.positions) - len(self.excitatory)
        return torch.cat([self.excitatory, self.excitatory.new_ones(inputs)])


def young_sheet(settings: SheetSettings, generator: torch.Generator) -> Sheet:
    """A sheet before learning: random places, types and wiring, all thresholds 1."""
    positions = sheet_positions(settings, generator)
    excitatory = draw_excitatory(settings.neurons, generator)
    sends = torch.cat([excitatory, excitatory.new_ones(settings.inputs)])
    wiring = random_wiring(positions, sends, settings, generator)
    threshold = torch.ones(settings.neurons, dtype=torch.float64)
    return Sheet(positions, excitatory, normalise(wiring, settings.in_degree), threshold)


class Learner:
    """A sheet in motion: its potentials and traces, and the spikes that are still on their way.

    One picture at a time, one step after the other, in float64 on the CPU, so that every machine comes to the
    same sheet.
    """

    def __init__(self, sheet: Sheet, settings: SheetSettings, generator: torch.Generator) -> None:
        self.sheet, self.settings, self.generator = sheet, settings, generator
        places = sheet.positions[: settings.neurons]
        kernel = lateral_kernel(places, sheet.excitatory, settings.excitation, settings.inhibition)
        self.sent = kernel.T.contiguous()
        self.potential = torch.zeros(settings.neurons, dtype=torch.float64)
        self.activity = torch.zeros(len(sheet.positions), dtype=torch.float64)
        width = len(sheet.positions) + 1  # the last column is for empty slots, and never fires
        self.past = torch.zeros(longest_delay(settings.step), width, dtype=torch.float64)
        self.traces = Traces.empty(sheet.wiring)
        self.since = 0.0

    def learn(self, rates: Tensor) -> Tensor:
        """Show pictures of rates (stimuli, inputs) in Hz, in order; spike counts (stimuli, neurons) while shown."""
        return torch.stack([self._picture(row) for row in rates])

    def _picture(self, rates: Tensor) -> Tensor:
        """Show one picture of rates (inputs,), rewire if it is time, then silence, then normalise."""
        settings = self.settings
        uniform = draws(settings.shown, settings.inputs, self.generator)
        counts = self.show(poisson_spikes(rates[None], uniform, settings.step)[:, :, 0]).sum(dim=0)
        self.since += (settings.shown + settings.silent) * settings.step
        if settings.plastic and self.since >= REWIRING:
            self._rewire()
        self.show(torch.zeros(settings.silent, settings.inputs, dtype=torch.bool))
        if settings.plastic:
            self.sheet.wiring = normalise(self.sheet.wiring, settings.in_degree)
        return counts

    def show(self, spikes: Tensor) -> Tensor:
        """Run through input spikes (steps, inputs) and learn from them; the neurons' spikes (steps, neurons)."""
        longest, neurons = len(self.past), self.settings.neurons
        index, fade = self._origins(), math.exp(-self.settings.step / TRACE)
        record = torch.cat([self.past, self.past.new_zeros(len(spikes), self.past.shape[1])])
        record[longest:, neurons:-1] = spikes.to(record)
        for time in range(len(spikes)):
            arrived = record[time : time + longest].view(-1).index_select(0, index).nonzero()[:, 0]
            record[time + longest, :neurons] = self._step(arrived, record[time + longest - 1, :neurons])
            self.activity.mul_(fade).add_(record[time + longest, :-1])
        self.past = record[len(spikes) :].clone()
        return record[longest:, :neurons]

    def _origins(self) -> Tensor:
        """Where in the last steps (step, source) each synapse hears from now; empty slots hear the last column."""
        wiring, (longest, width) = self.sheet.wiring, self.past.shape
        delays = wiring.delays(self.sheet.positions, self.settings.step)
        return ((longest - delays) * width + torch.where(wiring.used, wiring.sources, width - 1)).flatten()

    def _step(self, arrived: Tensor, before: Tensor) -> Tensor:
        """The spikes of one step, given at which synapses one arrives, and the spikes of the step before (neurons,)."""
        settings, sheet = self.settings, self.sheet
        weights, slots = sheet.wiring.weights, sheet.wiring.weights.shape[1]
        drive = self.sent[before.nonzero()[:, 0]].sum(dim=0)
        drive.index_add_(0, arrived // slots, weights.view(-1)[arrived])
        self.potential, spikes = membrane_step(self.potential, drive, sheet.threshold, settings.step)
        if settings.plastic:
            stdp_step(weights, self.traces, arrived, spikes, settings.asymmetry, settings.step)
        threshold_step(sheet.threshold, spikes, settings.homeostasis, settings.rate, settings.step)
        return spikes.to(drive)

    def _rewire(self) -> None:
        """Grow and prune; synapses start without a trace of what arrived."""
        sheet, settings = self.sheet, self.settings
        activity = self.activity * sheet.sends
        sheet.wiring = rewire(sheet.wiring, sheet.positions, activity, settings, self.generator)
        sheet.wiring = normalise(sheet.wiring, settings.in_degree)
        self.traces.arrived = torch.zeros_like(sheet.wiring.weights)
        self.since = 0.0
