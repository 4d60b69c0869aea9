"""Learning rates, the way back to the best state, and the order in which recordings are shown."""

import pytest
import torch

from models.training.data import ReadoutData, steps
from models.training.early_stopping import Schedule
from models.training.settings import FitSettings
from models.training.state_copy import BestState


def test_settings_come_from_what_has_their_names():
    settings = FitSettings.of(3, {"epochs": 5, "l1": 0.1, "balance": "areas"}, {"batch": "all", "epochs": 7})
    assert settings == FitSettings(epochs=7, batch=None, balance="areas", seed=3)


def test_learning_rates_rise_and_fall_with_the_best_state_put_back():
    """Losses by epoch: best at 1; patience of 2 ends at 3, 5 and 7; the path leaves out what was taken back."""
    module = torch.nn.Linear(1, 1, bias=False)
    schedule, best = Schedule(FitSettings(learning_rate=1.0, patience=2, warmup=2, decays=2)), BestState(module)
    rates, weights, ended = [], [], []
    for epoch, loss in enumerate([3.0, 2.0, 5.0, 5.0, 1.9, 4.0, 4.0, 4.0, 4.0, 4.0]):
        rates.append(schedule.rate(epoch))
        with torch.no_grad():
            module.weight.fill_(float(epoch))
        if best.offer(loss, epoch):
            schedule.improved(epoch)
        ended.append(schedule.ends(epoch, best))
        weights.append(module.weight.item())
        if ended[-1]:
            break
    assert rates == pytest.approx([0.5, 1.0, 1.0, 1.0, 0.3, 0.3, 0.3, 0.09, 0.09])
    assert weights == [0.0, 1.0, 2.0, 1.0, 4.0, 5.0, 4.0, 7.0, 8.0]
    assert ended == [False] * 8 + [True]
    assert schedule.best == pytest.approx([0.5, 1.0, 0.3])


def test_together_takes_one_batch_of_every_recording():
    """The recording with the most batches is seen once; the other again and again, each time in full."""

    def rows(count):
        return ReadoutData(torch.zeros(count, 1, 1, 1), {}, torch.arange(count), torch.arange(1))

    long, short = rows(100), rows(24)
    found = list(steps([long, short], FitSettings(batch=10, together=True), torch.Generator().manual_seed(0)))
    assert len(found) == 10
    assert all([recording for recording, _ in step] == [long, short] for step in found)
    assert sorted(torch.cat([step[0][1] for step in found]).tolist()) == list(range(100))
    again = [step[1][1] for step in found]
    for turn in range(3):
        assert sorted(torch.cat(again[3 * turn : 3 * turn + 3]).tolist()) == list(range(24))
