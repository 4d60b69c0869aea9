"""Twins fitted as a stack against the same twins fitted one after the other.

Readouts on cached features at the quickstart's sizes (600 scenes of which 360 are trained on, 40 units, maps of
EfficientNet-lite0), and trained cores at the sizes of the hierarchical-twin experiment and of the conv core's defaults.
Members differ in learning rate and penalties, and either share their seed, and so their batches, or have one each.
"stack" always stacks, "auto" is what a sweep does: it tries a step both ways and takes the faster, the trial included.
Every fit is of as many epochs; the largest difference of any prediction, in deviations, is printed beside.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from machine import describe_machine
from torch import Tensor

from models.backbones import BACKBONES
from models.readouts import READOUTS
from models.training.assembly import ReadoutPlan, assemble
from models.training.frozen_backbone import FrozenFit, fit_frozen_many
from models.training.gradient_fit import FitSettings, ReadoutData, predict
from models.training.stacked import strategy as paths
from models.training.stacked.fit_many import TwinFit, fit_twins

SCENES, TRAIN, SELECT, UNITS = 600, 360, 120, 40
MAPS = {"block 1": (24, 24, 24), "block 8": (112, 6, 6), "block 13": (192, 3, 3)}
"""Channels, height and width of blocks of EfficientNet-lite0 for pictures of 96 pixels."""

READ = {"gaussian": {}, "factorised": {}, "mlp": {"hidden": 64, "batch": 64}}
PATHS = ("each", "stack", "auto")


def defaults(table: Any, name: str) -> dict[str, Any]:
    """Parameters of a component as they are without a word about them."""
    return {key: each.default for key, each in table[name].parameters.items()}


def readouts(name: str, shape: tuple[int, int, int], members: int, one_seed: bool, epochs: int) -> Callable[[], Any]:
    """What fits some readouts of one block and gives their predictions, by path."""
    draws = torch.Generator().manual_seed(0)
    maps = torch.randn(SCENES, *shape, generator=draws)
    weights = torch.randn(maps[0].numel(), UNITS, generator=draws) / maps[0].numel() ** 0.5
    clean = torch.nn.functional.softplus(maps.flatten(1) @ weights)
    responses = clean * (1.0 + 0.3 * torch.rand(SCENES, UNITS, generator=draws))
    rows = [torch.randperm(SCENES, generator=torch.Generator().manual_seed(seed)) for seed in range(members)]
    given = defaults(READOUTS, name) | {"epochs": epochs, "patience": epochs} | READ[name]
    fits = []
    for turn in range(members):
        seed = 0 if one_seed else turn
        own = given | {"l1": 0.001 * (1 + turn), "learning_rate": 0.002 * (1 + turn % 4)}
        train, select = rows[seed][:TRAIN], rows[seed][TRAIN : TRAIN + SELECT]
        fits.append(FrozenFit(name, [maps], responses, train, select, own, seed))

    def run(path: str) -> list[Tensor]:
        found = dict(each for done in fit_frozen_many(fits, path) for each in done)
        with torch.no_grad():
            return [found[turn].report([maps[:64]]) / responses.std(dim=0) for turn in range(members)]

    return run


CORES: dict[str, dict[str, Any]] = {
    "factorised3d": {
        "channels": "8-8-8", "spatial_first": 5, "temporal_first": 5, "temporal_then": 3,
        "batch": 2, "frames": 40, "learning_rate": 0.01, "warmup": 0, "decays": 0,
    },
    "conv": {},
}  # fmt: skip


def cores(name: str, members: int, one_seed: bool, epochs: int) -> Callable[[], Any]:
    """What trains some cores with four areas and gives their predictions, by path."""
    draws, clips = torch.Generator().manual_seed(0), name == "factorised3d"
    lead, inputs = ((80, 40), (80, 3, 40, 16, 24)) if clips else ((300,), (300, 3, 48, 48))
    shown = torch.rand(inputs, generator=draws)
    areas = {f"mouse/{area}": torch.rand(*lead, 20, generator=draws) for area in ("V1", "LM", "RL", "AL")}
    order = torch.randperm(len(shown), generator=draws)
    data = {"mouse": ReadoutData(shown, areas, order[: len(order) // 2], order[len(order) * 3 // 4 :])}
    core = defaults(BACKBONES, name) | CORES[name] | {"epochs": epochs, "patience": epochs}
    given = defaults(READOUTS, "gaussian") | {"epochs": epochs, "patience": epochs}
    depths = dict(zip(areas, (0, 1, 1, 2), strict=True))

    def run(path: str) -> list[Tensor]:
        fits = []
        for turn in range(members):
            seed = 0 if one_seed else turn
            own = given | {"l1": 0.001 * (1 + turn)}
            twin = assemble(BACKBONES[name].load()(core, seed), ReadoutPlan("gaussian", own, depths), data, seed)
            fits.append(TwinFit(twin, data, FitSettings.of(seed, own, core), name))
        list(fit_twins(fits, path))
        return [predict(each.twin, shown[:4], list(areas))["mouse/V1"] for each in fits]

    return run


def compare(run: Callable[[str], Any], repeats: int) -> tuple[dict[str, float], float]:
    """Seconds by path, the least of some turns, and the largest difference of any prediction."""
    seconds = dict.fromkeys(PATHS, float("inf"))
    found: dict[str, Sequence[Tensor]] = {}
    for _ in range(repeats):
        for path in PATHS:
            paths.forget()
            start = time.perf_counter()
            found[path] = run(path)
            seconds[path] = min(seconds[path], time.perf_counter() - start)
    differences = [(a - b).abs().max() for a, b in zip(found["each"], found["stack"], strict=True)]
    return seconds, float(torch.stack(differences).max())


def show(what: str, members: int, one_seed: bool, run: Callable[[str], Any], repeats: int) -> None:
    """Print a line of the table."""
    seconds, difference = compare(run, repeats)
    alone = seconds["each"]
    print(
        f"{what:28}{members:4}  {'one seed' if one_seed else 'a seed each':12}{alone / members * 1000:9.1f} ms"
        f"{alone / seconds['stack']:8.2f} x{alone / seconds['auto']:8.2f} x   {difference:.1e}",
        flush=True,
    )


def main() -> None:
    """Print the tables."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--members", type=int, nargs="+", default=[1, 4, 16, 64])
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--epochs", type=int, default=6)
    options.add_argument("--only", choices=["readouts", "cores"])
    given = options.parse_args()
    torch.set_num_threads(1)
    print(describe_machine())
    print(f"{'':28}{'K':>4}  {'':12}{'alone':>12}{'stack':>10}{'auto':>10}   difference")
    for name in READ if given.only != "cores" else ():
        for block, shape in MAPS.items():
            for members in given.members:
                for one_seed in (True, False):
                    run = readouts(name, shape, members, one_seed, given.epochs)
                    show(f"{name}, {block}", members, one_seed, run, given.repeats)
    for name in CORES if given.only != "readouts" else ():
        for members in [each for each in given.members if each <= 16]:
            run = cores(name, members, False, given.epochs // 3)
            show(f"{name}, trained", members, False, run, 1)


if __name__ == "__main__":
    main()
