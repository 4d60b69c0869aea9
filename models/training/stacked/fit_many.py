"""Fits of many twins: those of one structure as a stack where that is faster, the others one after the other."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from models.training.data import ReadoutData, check
from models.training.early_stopping import BestState, Course, FitHistory, Judge, Snapshot
from models.training.gradient_fit import check_refit, finish, fit_prepared, prepared, refit_twin, restarted
from models.training.initial_state import Places
from models.training.settings import FitSettings
from models.training.stacked.grouping import structure
from models.training.stacked.optimizer import Member, StackedDescent, Tensors
from models.training.stacked.strategy import out_of_memory, pays, room
from models.twin import Twin

PATHS = ("auto", "stack", "each")


@dataclass(frozen=True)
class Wanted:
    """A twin to be fitted to its data, by recording. Only those of one `kind` may be fitted together.

    With `kept`, an equal twin, that one gets the state of the fit, and `twin` is then fitted anew on train and select
    rows, see `models.training.gradient_fit.refit_twin`. A `judge` may end the fit half-way; there is then no second one.
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
    """`models.training.gradient_fit.fit_twin` of many twins, in place: (number, outcome) of those that are done together, as they are.

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
    turns = list(again)
    for place, error in _refit(list(again.values()), rates).items():
        outcomes[turns[place]] = error
    return outcomes


def keep_state(kept: Twin, fitted: Twin) -> None:
    """Let an equal twin be what a fitted one is, in evaluation mode."""
    kept.load_state_dict(fitted.state_dict())
    kept.eval()


class Row(BestState):
    """The best state of one member of a stack so far."""

    def __init__(self, descent: StackedDescent, member: Member) -> None:
        super().__init__(member.twin)
        self.descent, self.member = descent, member

    def copy(self) -> Tensors:
        """A copy of the member's present state in the stack."""
        return self.descent.state(self.member)

    def restore(self) -> None:
        """Put the best state back into the stack."""
        self.descent.set_state(self.member, self.state)


def _fit(members: Sequence[Member], judges: Sequence[Judge | None]) -> list[Outcome]:
    """The loop of `models.training.gradient_fit.fit_twin` for all members at once; those that are done leave the stack."""
    descent = StackedDescent(members)
    courses = [
        Course(each.settings, Row(descent, each), Snapshot(each.twin), judge)
        for each, judge in zip(members, judges, strict=True)
    ]

    def epoch(going: Sequence[int], number: int) -> list[Callable[[], bool]]:
        train = descent.epoch([courses[turn].rate(number) for turn in going])
        losses, scores = descent.select_losses(any(courses[turn].judged(number) for turn in going))
        heard = zip(going, train, losses, scores, strict=True)
        return [partial(_goes_on, courses[turn], number, *numbers) for turn, *numbers in heard]

    errors = _run(descent, members, epoch)
    return [errors.get(turn, course.history) for turn, course in enumerate(courses)]


def _goes_on(course: Course, epoch: int, train: float, select: float, score: float) -> bool:
    return course.goes_on(epoch, train, select) and (not course.judged(epoch) or course.stays(epoch, score))


def _refit(members: Sequence[Member], rates: Sequence[Sequence[float]]) -> dict[int, FloatingPointError]:
    """The loop of `models.training.gradient_fit.refit_twin` for all members at once, each for as many epochs as it has rates."""
    if not members:
        return {}
    descent = StackedDescent(members)

    def epoch(going: Sequence[int], number: int) -> list[Callable[[], bool]]:
        losses = descent.epoch([rates[turn][number] for turn in going])
        return [partial(_has_more, rates[turn], number, loss) for turn, loss in zip(going, losses, strict=True)]

    return _run(descent, members, epoch)


def _has_more(rates: Sequence[float], epoch: int, loss: float) -> bool:
    check_refit(loss, rates[epoch])
    return epoch + 1 < len(rates)


def _run(
    descent: StackedDescent,
    members: Sequence[Member],
    epoch: Callable[[Sequence[int], int], list[Callable[[], bool]]],
) -> dict[int, FloatingPointError]:
    """Epochs until no member is left; those that raise are returned with their errors, the others are finished.

    `epoch` is run for the numbers of those that are left, and says of each whether it goes on, or raises its error.
    """
    errors: dict[int, FloatingPointError] = {}
    going, number = list(range(len(members))), 0
    while going:
        left = []
        for turn, goes_on in zip(going, epoch(going, number), strict=True):
            try:
                if goes_on():
                    left.append(turn)
                else:
                    _done(descent, members[turn])
            except FloatingPointError as error:
                errors[turn] = error
        descent.keep([members[turn] for turn in left])
        going, number = left, number + 1
    descent.asked.eval()
    return errors


def _done(descent: StackedDescent, member: Member) -> None:
    descent.write_back(member)
    finish(member.twin, member.recordings, member.settings)
