"""`sweeps check`: what an experiment would do, before it does it."""

from __future__ import annotations

from rich.console import Console

from sweeps.planning.packs import count_text, fewest_packs
from sweeps.planning.plan import Plan
from sweeps.probes import shown_kinds
from sweeps.recordings.recording import RecordingFacts
from sweeps.report.plain_text import PlainTable, name_text, print_line
from sweeps.report.split_sizes import split_kind, split_sizes
from sweeps.scores import SCORES

YEAR = 31_557_600
"""Seconds."""


def preview(plan: Plan, console: Console) -> None:
    """Print recordings, trials, distinct cells and packs, and what each score needs."""
    _recordings(plan, console)
    _work(plan, console)
    _scores(plan, console)
    print_line(console, f"results: {plan.storage}    cache: {plan.cache}")


def _recordings(plan: Plan, console: Console) -> None:
    table = PlainTable()
    for name in ("recording", "areas (units)", "stimuli", "groups", "repeats", "splits"):
        table.column(name)
    for facts in plan.facts:
        kind = split_kind(plan, facts)
        areas = ", ".join(f"{name_text(area)} ({units})" for area, units in facts.areas.items())
        table.row(name_text(facts.name), areas, str(facts.stimuli), str(facts.groups), str(facts.repeats), kind)
    console.print(table)
    for facts in plan.facts:
        for key, note in facts.notes.items():
            if isinstance(note, str) or (isinstance(note, int) and not isinstance(note, bool) and note):
                print_line(console, f"{name_text(facts.name)}: {key.replace('_', ' ')}: {note}")
    for name, groups in plan.shared.items():
        shared = f"{len(groups.places)} groups show what other recordings show: split alike"
        print_line(console, f"{name_text(name)}: {shared}")
    for line in split_sizes(plan):
        print_line(console, line)
    unread = sorted({area for facts in plan.facts for area in facts.areas} - set(plan.space.areas))
    if unread:
        print_line(console, f"areas that no depth is given for, left out: {', '.join(map(name_text, unread))}")


def _work(plan: Plan, console: Console) -> None:
    search, size, cells = plan.experiment.search, plan.space.size(), plan.cell_count()
    trials = search.trials or size or 0
    most = f" of {count_text(size)}" if size is not None and search.trials else ""
    objectives = ", ".join(search.objectives)
    print_line(console, f"{search.method}: {count_text(trials)} trials{most}; objectives: {objectives}")
    for notice in plan.notices:
        print_line(console, notice)
    if cells is not None:
        limit = " at most" if search.trials else ""
        packs = f"{count_text(fewest_packs(cells))} packs or more, the last ones small"
        print_line(console, f"{count_text(cells)} distinct cells{limit}; {packs}")
    pictures = sum(facts.stimuli for facts in plan.facts if facts.pictures)
    probes = sum(len(plan.probes[kind]) for kind in shown_kinds(plan.probes)) if pictures else 0
    print_line(
        console,
        f"every frozen backbone sees {pictures} pictures of the recordings and {probes} of the probes "
        "(once for each picture size)",
    )


def _scores(plan: Plan, console: Console) -> None:
    table = PlainTable()
    for name in ("score", "seconds a cell", "what it is; what it needs"):
        table.column(name, justify="right" if name.startswith("seconds") else "left")
    for name in plan.experiment.scores:
        score = SCORES[name]
        if score.probe:
            probe = plan.probes.get(score.probe)
            needs = f"probe {probe.name}, {len(probe)} pictures" if probe else f"probe {score.probe}: not given, NaN"
        else:
            needs = _missing(plan, name)
        table.row(name, f"{score.seconds:g}", f"{score.summary}; {needs}")
    console.print(table)
    total, cells = sum(SCORES[name].seconds for name in plan.experiment.scores), plan.cell_count()
    if cells is not None:
        duration = _duration(round(1e6 * total) * cells)
        print_line(
            console, f"scores of {count_text(cells)} cells: about {duration} of one core at the quickstart's sizes"
        )
    others = ", ".join(f"{name} ({score.seconds:g} s a cell)" for name, score in SCORES.items() if score.on_request)
    print_line(console, f"on request, in `scores` or by `sweeps score`: {others}")


def _duration(microseconds: int) -> str:
    """A time in words: whole numbers, since those of large spaces are beyond floats."""
    for unit, seconds in (("years", YEAR), ("h", 3600), ("min", 60)):
        length = 10**6 * seconds
        if microseconds >= (2 if unit != "years" else 10) * length:
            return f"{count_text((microseconds + length // 2) // length)} {unit}"
    return f"{microseconds / 1e6:.0f} s"


def _missing(plan: Plan, name: str) -> str:
    needed = {"invariance_alignment": {"objects"}, "transfer_brain": {"captions", "text"}}.get(name)
    if name == "feature_transfer":
        able = [facts for facts in plan.facts if len(facts.features) > 1]
    elif needed:
        able = [facts for facts in plan.facts if needed <= set(facts.roles)]
    elif name == "feve":
        able = [facts for facts in plan.facts if facts.repeats > 1]
    elif name in ("nonlinearity", "receptive-field"):
        able = [facts for facts in plan.facts if facts.pictures]
        if able:
            return f"pictures of {_names(able)}; gradient readouts are fitted again"
    else:
        return "held-out responses" + _gaps(name, plan.facts)
    if not able:
        return f"NaN here, since {SCORES[name].absent}"
    return f"recorded in {_names(able)}" + _gaps(name, able)


def _names(facts: list[RecordingFacts]) -> str:
    return ", ".join(name_text(recording.name) for recording in facts)


def _gaps(name: str, facts: list[RecordingFacts]) -> str:
    """Say where a score will be NaN, and why: all areas of a recording by its name."""
    places: dict[str, list[str]] = {}
    for recording in facts:
        gaps = SCORES[name].gaps(recording)
        whole = len(gaps) == len(recording.areas) and len(set(gaps.values())) == 1
        for area, reason in gaps.items():
            name = name_text(recording.name)
            place = name if whole else f"{name}/{name_text(area)}"
            places.setdefault(reason, []).append(place)
    parts = (f"; NaN in {', '.join(dict.fromkeys(there))}: {reason}" for reason, there in places.items())
    return "".join(parts)
