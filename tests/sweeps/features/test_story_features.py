"""Stories and captions as features, against planted truth and plain loops over the formula."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from ridge_forms import decompose
from tiny_models import SENTENCE, tiny_model

from models.backbones import BACKBONES
from models.linear.ridge import fit_ridge
from sweeps.errors import InputError
from sweeps.features.story_features import Reading, read_texts, story_features, text_maps, word_contexts, word_rate

torch.set_num_threads(1)

TR = 2.0
VOCABULARY = SENTENCE.split()
MEANING = dict(zip(VOCABULARY, np.random.default_rng(3).standard_normal((len(VOCABULARY), 6)), strict=True))


def forward(texts, blocks):
    """A network whose block b gives b + 1 times the meaning of a text's last word."""
    return [(block + 1) * torch.tensor(np.stack([MEANING[text.split()[-1]] for text in texts])) for block in blocks]


def featured(words, rows, network, blocks, rate=None, **reading):
    return story_features(words, rows, network, blocks, Reading(**reading), rate)


def story(runs=3, samples=60, pace=3.0, seed=0):
    """Words at random times, `pace` a second where each run is fast and a third of it where it is slow; and samples."""
    random, words, rows = np.random.default_rng(seed), [], []
    for run in range(runs):
        gaps = random.exponential(1 / pace, size=int(6 * samples * TR * pace))
        slow = np.sin(np.cumsum(gaps) / 25 + run) > 0
        times = np.cumsum(np.where(slow, 3 * gaps, gaps))
        times = times[times < samples * TR]
        words.append(pd.DataFrame({"run": run, "time": times, "word": random.choice(VOCABULARY, size=len(times))}))
        rows.append(pd.DataFrame({"run": run, "time": TR * np.arange(samples)}))
    return pd.concat(words, ignore_index=True), pd.concat(rows, ignore_index=True)


def kernel(u):
    """The Lanczos window of three lobes, written out."""
    if u == 0:
        return 1.0
    return 3 * np.sin(np.pi * u) * np.sin(np.pi * u / 3) / (np.pi * u) ** 2 if abs(u) <= 3 else 0.0


def test_features_are_the_formulas():
    words, rows = story(runs=2, samples=12)
    summed = featured(words, rows, forward, [0, 1], zscore=False)
    with pytest.warns(RuntimeWarning, match="less than half a word"):
        mean = featured(words, rows, forward, [0], resample="mean", zscore=False)[0]
    compared = 0
    for place, (run, at) in enumerate(zip(rows["run"], rows["time"], strict=True)):
        heard = words[words["run"] == run]
        weights = np.array([kernel((at - time) / TR) for time in heard["time"]])
        vectors = np.stack([MEANING[word] for word in heard["word"]])
        np.testing.assert_allclose(summed[0][place], weights @ vectors, atol=1e-10)
        if weights.sum() >= 0.5:  # else there is too little to take a mean of, see test_silence
            compared += 1
            np.testing.assert_allclose(mean[place], weights @ vectors / weights.sum(), atol=1e-10)
    assert compared >= 16
    np.testing.assert_allclose(summed[1], 2 * summed[0])


def test_contexts_stay_within_their_run_and_follow_time():
    words = pd.DataFrame({"run": ["x", "y", "x", "x", "y"], "time": [9, 0, 1, 4, 7], "word": ["c", "d", "a", "b", "e"]})
    assert word_contexts(words, 0, 0) == ["c", "d", "a", "b", "e"]
    assert word_contexts(words, 1, 0) == ["b c", "d", "a", "a b", "d e"]
    assert word_contexts(words, 20, 20) == ["a b c", "d e", "a b c", "a b c", "d e"]
    assert word_contexts(words, 0, 1) == ["c", "d e", "a b", "b c", "e"]


def test_one_word_comes_back_at_its_time_and_in_its_run_only():
    words, rows = story(runs=3, samples=40)
    words["word"] = "the"
    marked = words[(words["run"] == 1) & (words["time"] > 31)].index[0]
    before = featured(words, rows, forward, [0], zscore=False)[0]
    words.loc[marked, "word"] = "car"
    change = np.abs(featured(words, rows, forward, [0], context=3, zscore=False)[0] - before).sum(axis=1)
    best = rows.iloc[int(change.argmax())]
    assert best["run"] == 1
    assert abs(best["time"] - words["time"][marked]) <= TR / 2
    far = (rows["run"] != 1) | ((rows["time"] - words["time"][marked]).abs() > 3 * TR)
    assert change[far].max() < 1e-12


def planted(words, rows, seed=0):
    """Responses to the meanings of the words within half a TR of each sample (a box, no Lanczos), and noise."""
    random = np.random.default_rng(seed)
    weights = random.standard_normal((6, 5))
    values = np.stack([MEANING[word] for word in words["word"]]) @ weights
    near = np.abs(rows["time"].to_numpy()[:, None] - words["time"].to_numpy()) < TR / 2
    same = rows["run"].to_numpy()[:, None] == words["run"].to_numpy()
    clean = (near & same) @ values
    return clean + 0.3 * clean.std() * random.standard_normal(clean.shape)


def held_out(features, responses, runs, left=2):
    """Mean correlation over units in one run, of ridge fitted on the others."""
    train = runs != left
    x, y = torch.tensor(features), torch.tensor(responses)
    kernel = x[train] @ x[train].T
    predicted = fit_ridge(decompose(x[train]), kernel, y[train], runs[train]).predict(x[~train] @ x[train].T)
    pairs = zip(predicted.numpy().T, responses[~train].T, strict=True)
    return np.mean([np.corrcoef(one, other)[0, 1] if one.std() > 1e-12 else 0.0 for one, other in pairs])


def test_a_signal_carried_by_words_comes_back_at_the_right_lag():
    words, rows = story(samples=80)
    responses, runs = planted(words, rows), rows["run"].to_numpy()
    features = featured(words, rows, forward, [0])[0]
    scores = {}
    for lag in (-3, -2, -1, 0, 1, 2, 3):
        moved = np.concatenate([np.roll(features[runs == run], lag, axis=0) for run in range(3)])
        scores[lag] = held_out(moved, responses, runs)
    assert scores[0] > 0.8
    assert scores[0] == max(scores.values())
    assert max(scores[-3], scores[3]) < 0.3


def test_sums_carry_the_rate_of_words_and_means_do_not():
    """Units that follow the pace of speech alone, read from features that say nothing of it but by their sum."""
    words, rows = story(samples=80)
    runs, random = rows["run"].to_numpy(), np.random.default_rng(1)
    pace = word_rate(words, rows)
    responses = pace @ np.ones((1, 4)) + 0.3 * pace.std() * random.standard_normal((len(rows), 4))
    constant = lambda texts, blocks: [1 + 0.1 * forward(texts, [0])[0]]  # noqa: E731
    summed = held_out(featured(words, rows, constant, [0])[0], responses, runs)
    with pytest.warns(RuntimeWarning, match="less than half a word"):
        mean = held_out(featured(words, rows, constant, [0], resample="mean")[0], responses, runs)
    nuisance = held_out(pace, responses, runs)
    assert summed > 0.85
    assert nuisance > 0.85
    assert mean < 0.4


def test_rate_of_words_counts_them():
    """Far from a run's ends an even stream of four words a sample counts four; runs add nothing to each other."""
    times = np.arange(0, 100, 0.5)
    words = pd.concat([pd.DataFrame({"run": run, "time": times, "word": "a"}) for run in "xy"], ignore_index=True)
    rows = pd.concat([pd.DataFrame({"run": run, "time": np.arange(20, 80, TR)}) for run in "xy"], ignore_index=True)
    np.testing.assert_allclose(word_rate(words, rows), 4.0, rtol=0.02)


def test_no_run_touches_another():
    words, rows = story()
    alone = featured(words[words["run"] == 1], rows[rows["run"] == 1].reset_index(drop=True), forward, [0])[0]
    words.loc[words["run"] != 1, "word"] = "street"
    together = featured(words, rows, forward, [0])[0]
    np.testing.assert_allclose(together[rows["run"] == 1], alone)


def test_order_of_the_rows_does_not_matter():
    words, rows = story()
    features = featured(words, rows, forward, [0])[0]
    random = np.random.default_rng(0)
    places = random.permutation(len(rows))
    mixed = featured(
        words.sample(frac=1, random_state=0, ignore_index=True), rows.iloc[places].reset_index(drop=True), forward, [0]
    )[0]
    np.testing.assert_allclose(mixed, features[places], atol=1e-9)


def test_z_scores_are_of_each_run_without_its_ends():
    words, rows = story()
    raw = featured(words, rows, forward, [0], zscore=False)[0]
    scaled = featured(words, rows, forward, [0], ends=(5, 8))[0]
    for run in range(3):
        places = np.flatnonzero(rows["run"] == run)
        inside = places[5:-8]
        expected = (raw[places] - raw[inside].mean(axis=0)) / raw[inside].std(axis=0)
        np.testing.assert_allclose(scaled[places], expected)
    same = lambda texts, blocks: [torch.full((len(texts), 2), 3.0)]  # noqa: E731
    with pytest.warns(RuntimeWarning, match="less than half a word"):
        assert not featured(words, rows, same, [0], resample="mean")[0].any()


def test_silence():
    """Words in the first half of a run only: sums fade to 0, means become the mean of the others and are counted."""
    words, rows = story(runs=1, samples=40)
    words = words[words["time"] < 40].reset_index(drop=True)
    summed = featured(words, rows, forward, [0], zscore=False)[0]
    assert not summed[24:].any()
    silent = np.array([sum(kernel((at - time) / TR) for time in words["time"]) < 0.5 for at in rows["time"]])
    assert silent[24:].all()
    with pytest.warns(RuntimeWarning, match=f"{silent.sum()} of 40 samples of run 0 have less than half a word"):
        mean = featured(words, rows, forward, [0], resample="mean", zscore=False)[0]
    np.testing.assert_allclose(mean[silent], np.broadcast_to(mean[~silent].mean(axis=0), (silent.sum(), 6)))
    assert np.abs(mean).max() < 10
    lonely = pd.DataFrame({"run": [0], "time": [1000.0], "word": ["car"]})
    with pytest.raises(InputError, match="run 0 has no sample with half a word around it"):
        featured(lonely, rows, forward, [0], resample="mean")


def test_rate_is_the_recordings_own_where_it_is_given():
    words, rows = story(runs=1, samples=30)
    sparse = rows.iloc[::3].reset_index(drop=True)  # samples left out: their spacing is no longer the TR
    every = featured(words, rows, forward, [0], zscore=False)[0]
    some = featured(words, sparse, forward, [0], zscore=False, rate=1 / TR)[0]
    np.testing.assert_allclose(some, every[::3])
    assert not np.allclose(featured(words, sparse, forward, [0], zscore=False)[0], every[::3])


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            lambda words, rows: (words.drop(columns="word"), rows),
            "words need the columns run, time, word; got run, time",
        ),
        (lambda words, rows: (words, rows.drop(columns="run")), "rows need the columns run, time; got time"),
        (lambda words, rows: (words[words["run"] != 1], rows), "run 1 has no words; runs with words: 0"),
        (lambda words, rows: (words.assign(time="soon"), rows), "times of words must be seconds"),
        (lambda words, rows: (words, rows.assign(time=np.nan)), "times of rows must be seconds"),
    ],
)
def test_bad_tables(change, problem):
    with pytest.raises(InputError) as told:
        featured(*change(*story(runs=2, samples=5)), forward, [0])
    assert problem in str(told.value)


def test_unknown_ways_to_resample():
    with pytest.raises(ValueError, match="resample must be sum or mean; got 'last'"):
        Reading(resample="last")


def test_ends_that_leave_nothing():
    with pytest.raises(InputError, match=r"run 0 has 5 samples, and ends = \(3, 2\) leaves none of them"):
        featured(*story(runs=1, samples=5), forward, [0], ends=(3, 2))


def recording(**held):
    """What `text_maps` reads of a recording."""
    table = held.pop("table")
    return SimpleNamespace(**{"name": "told", "words": None, "frame_rate": 1 / TR, "sets": {"fit": table}} | held)


def language():
    parameters = {key: parameter.default for key, parameter in BACKBONES["language"].parameters.items()}
    parameters |= {"model": tiny_model("gpt2"), "context": 4, "zscore": False}
    return BACKBONES["language"].load()(parameters, 0), parameters


def test_captions_are_read_as_they_are():
    network, parameters = language()
    captions = [" ".join(VOCABULARY[start : start + 4]) for start in range(15)] * 5  # more than one batch
    held = recording(table=SimpleNamespace(table=pd.DataFrame({"file": captions, "caption": captions})))
    maps = text_maps(held, network, [3, 0], parameters)
    direct = network.forward_texts(captions, [3, 0])
    for found, expected in zip(maps, direct, strict=True):
        assert found.shape == (75, 32, 1, 1)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found[:, :, 0, 0], expected, atol=1e-5)


def test_stories_are_read_word_by_word():
    network, parameters = language()
    words, rows = story(runs=2, samples=10)
    held = recording(table=SimpleNamespace(table=rows.assign(caption="not read")), words=words)
    found = text_maps(held, network, [2], parameters)[0]
    assert found.shape == (20, 32, 1, 1)
    vectors = network.forward_texts(word_contexts(words, 4, 0), [2])[0].numpy()
    heard = words["run"].to_numpy() == 1
    weights = np.array([kernel((6.0 - time) / TR) for time in words["time"][heard]])
    np.testing.assert_allclose(found[13, :, 0, 0], weights @ vectors[heard], atol=1e-4)


def test_a_recording_without_texts():
    network, parameters = language()
    held = recording(table=SimpleNamespace(table=pd.DataFrame({"file": ["one.png"]})))
    with pytest.raises(InputError, match="recording told has no words and, for role fit, no column `caption`"):
        text_maps(held, network, [0], parameters)


def test_batches_change_nothing_but_rounding():
    network, _ = language()
    texts = [" ".join(VOCABULARY[: 1 + length % 9]) for length in range(70)]
    whole = read_texts(network.forward_texts, texts, [3])[0]
    for place in (0, 63, 64, 69):
        np.testing.assert_allclose(
            read_texts(network.forward_texts, [texts[place]], [3])[0][0], whole[place], atol=1e-5
        )
