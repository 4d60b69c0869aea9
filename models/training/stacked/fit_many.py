"""Fits of many twins: those of one structure as a stack where that is faster, the others one after the other."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from models.training.data import ReadoutData, check
from models.training.early_stopping import EarlyStopping, FitHistory, Pruner
from models.training.gradient_fit import check_refit, finish, fit_prepared, prepared, refit_twin, restarted
from models.training.initial_state import Places
from models.training.settings import FitSettings
from models.training.stacked.grouping import structure
from models.training.stacked.member import Member
from models.training.stacked.stacked_training_loop import StackedTrainingLoop, Tensors
from models.training.stacked.strategy import out_of_memory, pays, room
from models.training.state_copy import BestState, StateCopy
from models.twin import Twin

PATHS = ("auto", "stack", "each")


@dataclass(frozen=True)
class TwinFit:
    """A twin to be fitted to its data, by recording. Only those of one `kind` may be fitted together.

    With `select_twin`, an equal twin, that one gets the state of the fit, and `twin` is then fitted anew on train and
    select rows, see `refit_twin`. A `pruner` may end the fit half-way; there is then no second one.
    """

    twin: Twin
    data: Mapping[str, ReadoutData]
    settings: FitSettings
    kind: Hashable = None
    select_twin: Twin | None = None
    pruner: Pruner | None = None


FitResult = FitHistory | ValueError | FloatingPointError
"""The history of a fit, or the error that it would have raised alone."""


def fit_twins(fits: Sequence[TwinFit], path: str = "auto") -> Iterator[list[tuple[int, FitResult]]]:
    """Fit many twins in place like `fit_twin`; yield (number, result) of those that are done together, as they are.

    Twins that are alike in kind and in `structure` are fitted as stacks, in which each keeps its own seed, rates,
    decay, penalties, loss, blocks, early stopping and plateaus; what they become is the same to float tolerance.
    `path`: "auto" times a step both ways, once for each structure and size, and takes the faster; "stack" and "each"
    force one. A stack for which there is no memory is halved. The error of one twin stops no other.
    """
    if path not in PATHS:
        raise ValueError(f"unknown path {path!r}; known: {', '.join(PATHS)}")
    members: dict[int, Member] = {}
    alike: dict[Hashable, list[int]] = {}
    places: Places = {}
    for turn, fit in enumerate(fits):
        try:
            check(fit.twin, fit.data)
        except ValueError as error:
            yield [(turn, error)]
            continue
        recordings = prepared(fit.twin, list(fit.data.values()), places)
        members[turn] = Member(fit.twin, recordings, fit.settings, fit.kind)
        alike.setdefault((fit.kind, structure(members[turn])), []).append(turn)
    for turns in alike.values():
        turns.sort(key=lambda turn: members[turn].settings.seed)  # members of one seed share their batches
        size = 1 if path == "each" or len(turns) == 1 else room(members[turns[0]], len(turns))
        for first in range(0, len(turns), size):
            yield from _stack({turn: members[turn] for turn in turns[first : first + size]}, fits, path)


def _stack(members: Mapping[int, Member], fits: Sequence[TwinFit], path: str) -> Iterator[list[tuple[int, FitResult]]]:
    """Results of members that are alike: of a stack if it pays, halved where memory is short."""
    together = [member.again() for member in members.values()]
    if len(members) == 1 or path == "each" or not (path == "stack" or pays(together)):
        for turn, member in members.items():
            yield [(turn, _alone(member, fits[turn]))]
        return
    before = [StateCopy(member.twin) for member in together]
    try:
        results = _together(together, [fits[turn] for turn in members])
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
    else:
        yield list(zip(members, results, strict=True))
        return
    for copy, member in zip(before, together, strict=True):
        copy.restore(member.twin)
    turns = list(members)
    for half in (turns[: len(turns) // 2], turns[len(turns) // 2 :]):
        yield from _stack({turn: members[turn] for turn in half}, fits, path)


def _alone(member: Member, fit: TwinFit) -> FitResult:
    try:
        history = fit_prepared(member.twin, member.recordings, member.settings, fit.pruner)
        if fit.select_twin is not None:
            copy_state(member.twin, fit.select_twin)
        if fit.select_twin is not None and not history.pruned:
            refit_twin(member.twin, fit.data, member.settings, history)
    except (ValueError, FloatingPointError) as error:
        return error
    return history


def _together(members: Sequence[Member], fits: Sequence[TwinFit]) -> list[FitResult]:
    results = _fit(members, [fit.pruner for fit in fits])
    again: dict[int, Member] = {}
    for turn, (member, fit, result) in enumerate(zip(members, fits, results, strict=True)):
        if fit.select_twin is not None and isinstance(result, FitHistory):
            copy_state(member.twin, fit.select_twin)
            if result.pruned:
                continue
            recordings = restarted(member.twin, list(fit.data.values()), result)
            again[turn] = Member(member.twin, recordings, member.settings, member.kind)
    rates = [result.rates for turn, result in enumerate(results) if turn in again]  # type: ignore[union-attr]
    turns = list(again)
    for place, error in _refit(list(again.values()), rates).items():
        results[turns[place]] = error
    return results


def copy_state(fitted: Twin, other: Twin) -> None:
    """Copy the state of a fitted twin into an equal one, in evaluation mode."""
    other.load_state_dict(fitted.state_dict())
    other.eval()


class MemberBestState(BestState):
    """The best state of one member of a stack so far."""

    def __init__(self, loop: StackedTrainingLoop, member: Member) -> None:
        super().__init__(member.twin)
        self.loop, self.member = loop, member

    def copy(self) -> Tensors:
        """Copy the member's present state in the stack."""
        return self.loop.state(self.member)

    def restore(self) -> None:
        """Put the best state back into the stack."""
        self.loop.set_state(self.member, self.state)


def _fit(members: Sequence[Member], pruners: Sequence[Pruner | None]) -> list[FitResult]:
    """The loop of `fit_twin` for all members at once; those that are done leave the stack."""
    loop = StackedTrainingLoop(members)
    stopping = [
        EarlyStopping(member.settings, MemberBestState(loop, member), StateCopy(member.twin), pruner)
        for member, pruner in zip(members, pruners, strict=True)
    ]

    def epoch(going: Sequence[int], number: int) -> list[Callable[[], bool]]:
        train = loop.epoch([stopping[turn].rate(number) for turn in going])
        losses, scores = loop.select_losses(any(stopping[turn].needs_score(number) for turn in going))
        values = zip(going, train, losses, scores, strict=True)
        return [partial(_goes_on, stopping[turn], number, *numbers) for turn, *numbers in values]

    errors = _run(loop, members, epoch)
    return [errors.get(turn, own.history) for turn, own in enumerate(stopping)]


def _goes_on(stopping: EarlyStopping, epoch: int, train: float, select: float, score: float) -> bool:
    going = stopping.goes_on(epoch, train, select)
    return going and (not stopping.needs_score(epoch) or stopping.survives(epoch, score))


def _refit(members: Sequence[Member], rates: Sequence[Sequence[float]]) -> dict[int, FloatingPointError]:
    """The loop of `refit_twin` for all members at once, each for as many epochs as it has rates."""
    if not members:
        return {}
    loop = StackedTrainingLoop(members)

    def epoch(going: Sequence[int], number: int) -> list[Callable[[], bool]]:
        losses = loop.epoch([rates[turn][number] for turn in going])
        return [partial(_has_more, rates[turn], number, loss) for turn, loss in zip(going, losses, strict=True)]

    return _run(loop, members, epoch)


def _has_more(rates: Sequence[float], epoch: int, loss: float) -> bool:
    check_refit(loss, rates[epoch])
    return epoch + 1 < len(rates)


def _run(
    loop: StackedTrainingLoop,
    members: Sequence[Member],
    epoch: Callable[[Sequence[int], int], list[Callable[[], bool]]],
) -> dict[int, FloatingPointError]:
    """Epochs until no member is left; those that raise are returned with their errors, the others are finished.

    `epoch` is run for the numbers of those that are left; its functions tell whether each goes on, or raise its error.
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
                    _done(loop, members[turn])
            except FloatingPointError as error:
                errors[turn] = error
        loop.keep([members[turn] for turn in left])
        going, number = left, number + 1
    loop.stacked_twin.eval()
    return errors


def _done(loop: StackedTrainingLoop, member: Member) -> None:
    loop.write_back(member)
    finish(member.twin, member.recordings, member.settings)
