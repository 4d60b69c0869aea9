"""Fits of many twins: those of one structure as a stack where that is faster, the others one after the other."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from models.fit import check_refit, finish, fit_prepared, prepared, refit_twin, restarted
from models.fit_data import ReadoutData, check
from models.fit_start import Places
from models.schedule import Course, FitHistory, FitSettings, Judge, Snapshot
from models.stacks.descent import Member, StackedDescent, Tensors
from models.stacks.paths import out_of_memory, pays, room
from models.stacks.structure import structure
from models.twin import Twin

PATHS = ("auto", "stack", "each")


@dataclass(frozen=True)
class Wanted:
    """A twin to be fitted to its data, by recording. Only those of one `kind` may be fitted together.

    With `kept`, an equal twin, that one gets the state of the fit, and `twin` is then fitted anew on train and select
    rows, see `models.fit.refit_twin`. A `judge` may end the fit half-way; there is then no second one.
    """

    twin: Twin
    data: Mapping[str, ReadoutData]
    settings: FitSettings
    kind: Hashable = None
    kept: Twin | None = None
    judge: Judge | None = None


Outcome = FitHistory | ValueError | FloatingPointError
"""What became of a fit: its history, or the error that it would have raised alone."""


def fit_twins(wanted: Sequence[Wanted], path: str = "auto") -> Iterator[list[tuple[int, Outcome]]]:
    """`models.fit.fit_twin` of many twins, in place: (number, outcome) of those that are done together, as they are.

    Twins that are alike in kind and in `structure` are fitted as stacks, in which each keeps its own seed, rates,
    decay, penalties, loss, blocks, early stopping and plateaus; what they become is the same to float tolerance.
    `path`: "auto" times a step both ways, once for each structure and size, and takes the faster; "stack" and "each"
    say which. A stack for which there is no memory is halved. The error of one twin stops no other.
    """
    if path not in PATHS:
        raise ValueError(f"unknown path {path!r}; known: {', '.join(PATHS)}")
    members: dict[int, Member] = {}
    alike: dict[Hashable, list[int]] = {}
    places: Places = {}
    for turn, each in enumerate(wanted):
        try:
            check(each.twin, each.data)
        except ValueError as error:
            yield [(turn, error)]
            continue
        recordings = prepared(each.twin, list(each.data.values()), places)
        members[turn] = Member(each.twin, recordings, each.settings, each.kind)
        alike.setdefault((each.kind, structure(members[turn])), []).append(turn)
    for turns in alike.values():
        turns.sort(key=lambda turn: members[turn].settings.seed)  # members of one seed share their batches
        size = 1 if path == "each" or len(turns) == 1 else room(members[turns[0]], len(turns))
        for first in range(0, len(turns), size):
            chosen = turns[first : first + size]
            yield from _stack({turn: members[turn] for turn in chosen}, wanted, path)


def _stack(members: Mapping[int, Member], wanted: Sequence[Wanted], path: str) -> Iterator[list[tuple[int, Outcome]]]:
    """Outcomes of members that are alike: of a stack if it pays, halved where memory is short."""
    together = [member.again() for member in members.values()]
    if len(members) == 1 or path == "each" or not (path == "stack" or pays(together)):
        for turn, member in members.items():
            yield [(turn, _alone(member, wanted[turn]))]
        return
    before = [Snapshot(member.twin) for member in together]
    try:
        outcomes = _together(together, [wanted[turn] for turn in members])
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
    else:
        yield list(zip(members, outcomes, strict=True))
        return
    for snapshot, member in zip(before, together, strict=True):
        snapshot.restore(member.twin)
    turns = list(members)
    for half in (turns[: len(turns) // 2], turns[len(turns) // 2 :]):
        yield from _stack({turn: members[turn] for turn in half}, wanted, path)


def _alone(member: Member, wanted: Wanted) -> Outcome:
    try:
        history = fit_prepared(member.twin, member.recordings, member.settings, wanted.judge)
        if wanted.kept is not None:
            keep_state(wanted.kept, member.twin)
        if wanted.kept is not None and not history.pruned:
            refit_twin(member.twin, wanted.data, member.settings, history)
    except (ValueError, FloatingPointError) as error:
        return error
    return history


def _together(members: Sequence[Member], wanted: Sequence[Wanted]) -> list[Outcome]:
    outcomes = _fit(members, [each.judge for each in wanted])
    again: dict[int, Member] = {}
    for turn, (member, each, outcome) in enumerate(zip(members, wanted, outcomes, strict=True)):
        if each.kept is not None and isinstance(outcome, FitHistory):
            keep_state(each.kept, member.twin)
            if outcome.pruned:
                continue
            recordings = restarted(member.twin, list(each.data.values()), outcome)
            again[turn] = Member(member.twin, recordings, member.settings, member.kind)
    rates = [outcome.rates for turn, outcome in enumerate(outcomes) if turn in again]  # type: ignore[union-attr]
    for turn, error in zip(again, _refit(list(again.values()), rates), strict=True):
        outcomes[turn] = error or outcomes[turn]
    return outcomes


def keep_state(kept: Twin, fitted: Twin) -> None:
    """Let an equal twin be what a fitted one is, in evaluation mode."""
    kept.load_state_dict(fitted.state_dict())
    kept.eval()


class Row:
    """The best state of one member of a stack so far: `models.schedule.Kept`."""

    def __init__(self, descent: StackedDescent, member: Member) -> None:
        self.descent, self.member = descent, member
        self.loss, self.epoch = float("inf"), -1
        self.state: Tensors = {}

    def offer(self, loss: float, epoch: int) -> bool:
        """Copy the member's state if `loss` is lower than any before, and say so."""
        if loss < self.loss:
            self.loss, self.epoch, self.state = loss, epoch, self.descent.state(self.member)
            return True
        return False

    def restore(self) -> None:
        """Put the best state back."""
        self.descent.set_state(self.member, self.state)


def _fit(members: Sequence[Member], judges: Sequence[Judge | None]) -> list[Outcome]:
    """The loop of `models.fit.fit_twin` for all members at once; those that are done leave the stack."""
    descent = StackedDescent(members)
    courses = [
        Course(each.settings, Row(descent, each), Snapshot(each.twin), judge)
        for each, judge in zip(members, judges, strict=True)
    ]
    found: list[Outcome] = [course.history for course in courses]
    going, epoch = list(range(len(members))), 0
    while going:
        train = descent.epoch([courses[turn].rate(epoch) for turn in going])
        asked = any(courses[turn].judged(epoch) for turn in going)
        losses, correlations = descent.select_losses(asked)
        left = []
        for turn, *pair, score in zip(going, train, losses, correlations, strict=True):
            course = courses[turn]
            try:
                on = course.goes_on(epoch, *pair) and (not course.judged(epoch) or course.stays(epoch, score))
            except FloatingPointError as error:
                found[turn] = error
                continue
            if on:
                left.append(turn)
            else:
                _done(descent, members[turn])
        descent.keep([members[turn] for turn in left])
        going, epoch = left, epoch + 1
    descent.asked.eval()
    return found


def _refit(members: Sequence[Member], rates: Sequence[Sequence[float]]) -> list[FloatingPointError | None]:
    """The loop of `models.fit.refit_twin` for all members at once, each for as many epochs as it has rates."""
    if not members:
        return []
    descent = StackedDescent(members)
    found: list[FloatingPointError | None] = [None] * len(members)
    going, epoch = list(range(len(members))), 0
    while going:
        losses = descent.epoch([rates[turn][epoch] for turn in going])
        left = []
        for turn, loss in zip(going, losses, strict=True):
            try:
                check_refit(loss, rates[turn][epoch])
            except FloatingPointError as error:
                found[turn] = error
                continue
            if epoch + 1 < len(rates[turn]):
                left.append(turn)
            else:
                _done(descent, members[turn])
        descent.keep([members[turn] for turn in left])
        going, epoch = left, epoch + 1
    descent.asked.eval()
    return found


def _done(descent: StackedDescent, member: Member) -> None:
    descent.write_back(member)
    finish(member.twin, member.recordings, member.settings)
