"""Twins that are fitted in a stack become what they become alone."""

from __future__ import annotations

import pytest
import torch

from models.backbones import BACKBONES
from models.objectives.losses import LOSSES
from models.readouts import READOUTS
from models.training.assembly import ReadoutPlan, assemble
from models.training.early_stopping import FitHistory
from models.training.frozen_backbone import FrozenFit, fit_frozen_many
from models.training.gradient_fit import FitSettings, ReadoutData, fit_twin, predict
from models.training.stacked import fit_many as stacks
from models.training.stacked.fit_many import TwinFit, fit_twins
from models.training.stacked.grouping import structure
from models.training.stacked.member import Member
from models.training.stacked.stacked_training_loop import StackedTrainingLoop
from models.training.stacked.strategy import free_bytes, out_of_memory, pays, room
from models.twin import Twin

torch.set_num_threads(1)

STIMULI, UNITS, CHANNELS, SIDE = 130, 5, 6, 6
TOLERANCE = {"rtol": 1e-4, "atol": 1e-4}


def defaults(name, **changes):
    return (
        {key: each.default for key, each in READOUTS[name].parameters.items()} | {"epochs": 3, "patience": 2} | changes
    )


def planted(channels=CHANNELS, units=UNITS, seed=0):
    """Maps, and responses of softplus units to them, of which some are missing."""
    draws = torch.Generator().manual_seed(seed)
    maps = torch.randn(STIMULI, channels, SIDE, SIDE, generator=draws)
    weights = torch.randn(channels * SIDE * SIDE, units, generator=draws) / 20
    responses = torch.nn.functional.softplus(maps.flatten(1) @ weights) + 0.1 * torch.rand(
        STIMULI, units, generator=draws
    )
    responses[torch.rand(STIMULI, units, generator=draws) < 0.05] = torch.nan
    return maps, responses


def split(seed):
    """Train and select rows; their number goes with the seed, so that batches of a stack differ in length."""
    order = torch.randperm(STIMULI, generator=torch.Generator().manual_seed(seed))
    return order[: 90 + seed], order[100:]


def frozen(name, members, **changes):
    """Readouts of two maps; a list among `changes` goes around the members, and so do seeds 0, 0, 1, 1, ..."""
    maps, responses = planted(seed=0), planted(seed=1)
    sources = [maps, responses]
    found = []
    for turn in range(members):
        seed, (seen, observed) = turn // 2 % 3, sources[turn // 4 % 2]
        given = {key: value[turn % len(value)] if isinstance(value, list) else value for key, value in changes.items()}
        refit = given.pop("refit", False)
        rows = [each.clone() for each in split(seed)]
        found.append(FrozenFit(name, [seen], observed, *rows, defaults(name, **given), seed, None, refit))
    return found


def outcomes(wanted, path):
    return dict(each for done in fit_frozen_many(wanted, path) for each in done)


def assert_same(wanted, ours, alone):
    assert sorted(ours) == sorted(alone) == list(range(len(wanted)))
    for turn, each in enumerate(wanted):
        assert not ours[turn].pruned
        for readout, other in zip(ours[turn][:2], alone[turn][:2], strict=True):
            assert not readout.training
            with torch.no_grad():
                torch.testing.assert_close(readout(each.maps), other(each.maps), **TOLERANCE)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("gaussian", {"l1": [0.0, 0.01, 0.1]}),
        ("gaussian", {"covariance": "full", "group": [0.01, 0.1], "group_over": "units", "position_pull": [0.1, 0.3]}),
        ("factorised", {"mask_l1": [0.0, 0.1], "laplace": [0.01, 0.1], "bias": False}),
        ("mlp", {"hidden": 8, "batch": 32, "weight_decay": [0.0, 0.1, 1.0]}),
    ],
    ids=["gaussian", "gaussian-full", "factorised", "mlp"],
)
def test_every_readout_and_loss_is_what_it_is_alone(name, changes, loss):
    wanted = frozen(name, 5, loss=loss, learning_rate=[0.01, 0.02], refit=True, **changes)
    assert_same(wanted, outcomes(wanted, "stack"), outcomes(wanted, "each"))


@pytest.mark.parametrize("members", [2, 3, 17])
def test_every_size_of_stack(members):
    wanted = frozen("gaussian", members, loss=["poisson", "gaussian", "correlation"], epochs=[1, 3, 6], patience=[1, 2])
    assert_same(wanted, outcomes(wanted, "stack"), outcomes(wanted, "each"))


def test_several_maps_that_are_read_together_and_a_full_batch():
    maps, responses = planted()
    coarse = torch.nn.functional.avg_pool2d(maps, 2)
    wanted = [
        FrozenFit("mlp", [maps, coarse], responses, *split(seed), defaults("mlp", hidden=6), seed) for seed in (0, 0, 2)
    ]
    assert_same(wanted, outcomes(wanted, "stack"), outcomes(wanted, "each"))


@pytest.fixture
def made(monkeypatch):
    """The sizes of the stacks that are made."""
    sizes = []

    class Watched(StackedTrainingLoop):
        def __init__(self, members):
            sizes.append(len(members))
            super().__init__(members)

    monkeypatch.setattr(stacks, "StackedTrainingLoop", Watched)
    return sizes


def test_members_differ_in_what_is_free_and_in_nothing_else(made):
    alike = frozen("gaussian", 4, l1=[0.01, 0.1], loss=["poisson", "gaussian"], learning_rate=[0.01, 0.02])
    maps, responses = planted(channels=CHANNELS + 1)
    others = [
        FrozenFit("gaussian", [maps], responses, *split(0), defaults("gaussian"), 0),
        FrozenFit("gaussian", alike[0].maps, responses, *split(0), defaults("gaussian", covariance="full"), 0),
        FrozenFit("gaussian", alike[0].maps, responses, *split(0), defaults("gaussian", loss="zero-inflated-gamma"), 0),
    ]
    found = outcomes([*alike, *others], "stack")
    assert made == [4]
    assert_same([*alike, *others], found, outcomes([*alike, *others], "each"))


def test_an_error_of_one_member_is_its_own():
    wanted = frozen("gaussian", 6, loss="gaussian", learning_rate=[0.01, 0.01, float("inf"), 0.01, 0.02, 0.01])
    ours, alone = outcomes(wanted, "stack"), outcomes(wanted, "each")
    for found in (ours, alone):
        assert isinstance(found[2], FloatingPointError)
    assert str(ours[2]) == str(alone[2])
    good = [turn for turn in range(6) if turn != 2]
    renamed = [dict(enumerate(found[turn] for turn in good)) for found in (ours, alone)]
    assert_same([wanted[turn] for turn in good], *renamed)


def test_negative_responses_are_refused_before_anything_is_fitted(made):
    wanted = frozen("gaussian", 3, loss="poisson")
    wanted[1] = FrozenFit("gaussian", wanted[1].maps, -wanted[1].responses, *split(0), defaults("gaussian"), 0)
    found = outcomes(wanted, "stack")
    assert isinstance(found[1], ValueError)
    assert "negative responses" in str(found[1])
    assert made == [2]


def test_a_stack_without_memory_is_halved(monkeypatch):
    sizes = []

    class Short(StackedTrainingLoop):
        def epoch(self, rates):
            sizes.append(len(self.members))
            if len(self.members) > 2:
                super().epoch(rates)  # what was drawn must not be missing afterwards
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().epoch(rates)

    monkeypatch.setattr(stacks, "StackedTrainingLoop", Short)
    wanted = frozen("gaussian", 7)
    assert_same(wanted, outcomes(wanted, "stack"), outcomes(wanted, "each"))
    assert max(sizes) == 7
    assert sizes[-1] <= 2


def test_other_errors_are_not_taken_for_a_want_of_memory(monkeypatch):
    def broken(self, rates):
        raise RuntimeError("something else")

    monkeypatch.setattr(StackedTrainingLoop, "epoch", broken)
    with pytest.raises(RuntimeError, match="something else"):
        outcomes(frozen("gaussian", 3), "stack")
    assert out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"))


def test_trying_both_ways_changes_nothing(monkeypatch):
    wanted = frozen("gaussian", 4)
    tried = []
    monkeypatch.setattr(stacks, "pays", lambda members: tried.append(pays(members)) or tried[-1])
    assert_same(wanted, outcomes(wanted, "auto"), outcomes(wanted, "each"))
    assert len(tried) == 1


def test_room_goes_with_the_free_memory(monkeypatch):
    maps, responses = planted()
    data = ReadoutData([maps], {"area": responses}, *split(0))
    readout = READOUTS["gaussian"].load()([maps.shape[1:]], UNITS, defaults("gaussian"), 0)
    member = Member(Twin(None, {"area": readout}), [data], FitSettings())
    assert room(member, 10) == 10
    monkeypatch.setattr("models.training.stacked.strategy.free_bytes", lambda device: 1.0)
    assert room(member, 10) == 1


def test_free_memory_is_known_on_systems_without_meminfo(monkeypatch, tmp_path):
    linux = free_bytes(torch.device("cpu"))
    monkeypatch.setattr("models.machine.MEMINFO", tmp_path / "none")
    elsewhere = free_bytes(torch.device("cpu"))
    assert 0 < elsewhere < 1e15
    assert elsewhere / 10 < linux < elsewhere * 2.1


def test_an_unknown_path_is_an_error():
    with pytest.raises(ValueError, match="unknown path 'fast'; known: auto, stack, each"):
        next(fit_twins([], "fast"))


# -- trained cores ----------------------------------------------------------------------------------

CORES = {
    "conv": {"layers": 3, "channels": 4, "kernel": 5},
    "stacked2d": {"layers": 2, "channels": 4},
    "factorised3d": {
        "channels": "3-4", "batch": 8, "frames": 4,
        "temporal_first": 3, "temporal_then": 2, "spatial_first": 3, "spatial_then": 3,
    },
}  # fmt: skip


def recordings(names, items=41, clips=False, behaviour=False):
    draws = torch.Generator().manual_seed(0)
    found = {}
    for name in names:
        lead = (items, 6) if clips else (items,)
        inputs = torch.rand(items, 3, *lead[1:], 16, 16, generator=draws)
        rows = torch.randperm(items, generator=draws)
        responses = {f"{name}/{area}": torch.rand(*lead, 4, generator=draws) for area in ("V1", "LM")}
        beside = [torch.rand(*lead, width, generator=draws) if behaviour else None for width in (3, 2)]
        found[name] = ReadoutData(inputs, responses, rows[:27], rows[27:], *beside)
    return found


def trained(core, seeds, depths, data, together=False, refit=True, behaviour=False):
    """Twins that differ in seed, depth, rate, decay, loss and the weights of penalties."""
    component = BACKBONES[core]
    settled = {name: each.default for name, each in component.parameters.items()} | {"epochs": 2} | CORES[core]
    settled = {"batch": 16} | settled if core == "factorised3d" else settled | {"batch": 16}
    found = []
    for turn, seed in enumerate(seeds):
        depth = depths[turn % len(depths)]
        given = defaults("gaussian", l1=[0.01, 0.1][turn % 2], loss=["poisson", "gaussian"][turn % 2], epochs=2)
        own = settled | {"smoothness": [0.1, 1.0][turn % 2]}
        where = {key: depth for each in data.values() for key in each.responses}
        twins = [
            assemble(
                component.load()(own, seed), ReadoutPlan("gaussian", given, where), data, seed, behaviour, behaviour
            )
            for _ in range(2)
        ]
        changes = {"learning_rate": [0.01, 0.003][turn % 2], "together": together, "weight_decay": [0.0, 0.1][turn % 2]}
        settings = FitSettings.of(seed, given, own, changes)
        found.append(TwinFit(twins[0], data, settings, core, twins[1] if refit else None))
    return found


@pytest.mark.parametrize(
    ("core", "seeds", "depths", "names", "options"),
    [
        ("conv", [0, 1, 2], [1], ["a"], {}),
        ("conv", [0, 0, 2], [0, 2, 1], ["a"], {}),
        ("conv", [0, 1, 1], [1], ["a", "b"], {"behaviour": True}),
        ("conv", [0, 1, 1], [(0, 1), (1, 2)], ["a", "b"], {"together": True}),
        ("stacked2d", [0, 1], [1], ["a"], {}),
        ("factorised3d", [0, 1], [1], ["a"], {"behaviour": True}),
    ],
    ids=["seeds", "depths", "recordings", "together", "stacked2d", "clips"],
)
def test_trained_cores_are_what_they_are_alone(core, seeds, depths, names, options):
    data = recordings(names, clips=core == "factorised3d", behaviour=options.get("behaviour", False))
    ours, alone = (trained(core, seeds, depths, data, **options) for _ in range(2))
    assert len({structure(Member(each.twin, list(data.values()), each.settings)) for each in ours}) == 1
    for path, wanted in (("stack", ours), ("each", alone)):
        found = dict(each for done in fit_twins(wanted, path) for each in done)
        assert all(isinstance(found[turn], FitHistory) for turn in range(len(wanted)))
    for each, other in zip(ours, alone, strict=True):
        for twin, expected in ((each.twin, other.twin), (each.select_twin, other.select_twin)):
            for held in data.values():
                asked = (held.inputs, list(held.responses))
                said = predict(twin, *asked, behaviour=held.behaviour, pupil=held.pupil)
                for key, values in predict(expected, *asked, behaviour=held.behaviour, pupil=held.pupil).items():
                    torch.testing.assert_close(said[key], values, rtol=1e-3, atol=1e-3)


def test_a_stack_is_what_fit_twin_is():
    """Against the loop that knows no stacks, losses of every epoch included."""
    data = recordings(["a"])
    ours, alone = (trained("conv", [0, 1], [1], data, refit=False) for _ in range(2))
    found = dict(each for done in fit_twins(ours, "stack") for each in done)
    for turn, each in enumerate(alone):
        history = fit_twin(each.twin, each.data, each.settings)
        assert found[turn].best_epoch == history.best_epoch
        assert found[turn].train == pytest.approx(history.train, rel=1e-4)
        assert found[turn].select == pytest.approx(history.select, rel=1e-4)
        assert found[turn].rates == history.rates
