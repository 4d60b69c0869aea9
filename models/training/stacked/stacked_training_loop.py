"""The state of a stack, and one epoch of it: parameters, moments and batches of all members, updated together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from models.objectives.loss import Loss
from models.objectives.losses import LOSSES
from models.training.data import ReadoutData, Step, chunks, crop, steps
from models.training.stacked.batches import MemberRows, stacked_batch
from models.training.stacked.member import Member
from models.training.stacked.stacked_twin import StackedTwin
from models.training.state_copy import StateCopy
from models.training.twin_loss import correlation, weighted_loss
from models.twin import blocks_of

BETAS, EPSILON = (0.9, 0.999), 1e-8
"""Of AdamW, as `torch.optim.AdamW` has them."""

Tensors = dict[str, Tensor]


class StackedTrainingLoop:
    """AdamW of all members at once, each with its own rate and weight decay: a `TrainingLoop` for many.

    A member's numbers are those that it would have alone, up to the order in which floats are added. Members must be
    alike in structure (`models.training.stacked.grouping`). Their twins are left as they are until `write_back`.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = list(members)
        first = members[0].twin
        self.device = next(first.parameters()).device
        self.stacked_twin = StackedTwin(first, _blocks(members))
        self.groups = [tuple(recording.responses) for recording in members[0].recordings]
        parameters = [dict(member.twin.named_parameters(prefix="twin")) for member in members]
        buffers = [
            dict(member.twin.named_buffers(prefix="twin")) | self.stacked_twin.choices(member.twin)
            for member in members
        ]
        self.parameters = {name: tensor.requires_grad_() for name, tensor in _stacked(parameters).items()}
        self.buffers = {name: tensor.to(self.device) for name, tensor in _stacked(buffers).items()}
        self.moments = tuple(
            {name: torch.zeros_like(tensor) for name, tensor in self.parameters.items()} for _ in BETAS
        )
        self.taken = {name: torch.zeros(len(members), dtype=torch.double) for name in self.parameters}
        self.drawn: dict[int, tuple[int, dict[str, tuple[int, ...]]]] = {}

    # -- one member's state -------------------------------------------------------------------------

    def state(self, member: Member) -> Tensors:
        """Copy a member's parameters and buffers."""
        turn = self.members.index(member)
        return {name: tensor[turn].detach().clone() for name, tensor in (self.parameters | self.buffers).items()}

    @torch.no_grad()
    def set_state(self, member: Member, state: Mapping[str, Tensor]) -> None:
        """Put such a copy back."""
        turn = self.members.index(member)
        for name, tensor in (self.parameters | self.buffers).items():
            tensor[turn] = state[name]

    @torch.no_grad()
    def write_back(self, member: Member) -> None:
        """Give a member's twin the state that the stack has for it."""
        turn = self.members.index(member)
        tensors = dict(member.twin.named_parameters(prefix="twin")) | dict(member.twin.named_buffers(prefix="twin"))
        for name, tensor in tensors.items():
            tensor.copy_((self.parameters | self.buffers)[name][turn])

    def keep(self, going: Sequence[Member]) -> None:
        """Go on with some of the members."""
        if len(going) == len(self.members):
            return
        rows = torch.tensor([self.members.index(member) for member in going], dtype=torch.long)
        there = rows.to(self.device)
        self.parameters = {name: tensor.detach()[there].requires_grad_() for name, tensor in self.parameters.items()}
        self.buffers = {name: tensor[there] for name, tensor in self.buffers.items()}
        self.moments = tuple({name: tensor[there] for name, tensor in moment.items()} for moment in self.moments)
        self.taken = {name: tensor[rows] for name, tensor in self.taken.items()}
        self.members = list(going)

    # -- training -----------------------------------------------------------------------------------

    def epoch(self, rates: Sequence[float]) -> list[float]:
        """Train every member for an epoch at its own rate; return the mean losses of their steps, without penalties."""
        losses: list[list[Tensor]] = [[] for _ in self.members]
        for turns, batches in self.turns():
            for turn, loss in zip(turns, self.step(turns, batches, rates).unbind(), strict=True):
                losses[turn].append(loss)
        return torch.stack([torch.stack(member_losses).mean() for member_losses in losses]).tolist()

    def turns(self) -> Iterator[tuple[list[int], list[tuple[int, list[MemberRows]]]]]:
        """List the steps of an epoch: members that take theirs together, and (recording, rows) of all batches of it."""
        queues = [list(steps(member.recordings, member.settings, member.order)) for member in self.members]
        for number in range(max(map(len, queues))):
            together: dict[Any, list[int]] = {}
            for turn, queue in enumerate(queues):
                if number < len(queue):
                    together.setdefault(self._likeness(turn, queue[number]), []).append(turn)
            for likeness, turns in together.items():
                batches = [
                    (position, [self._part(turn, *queues[turn][number][slot]) for turn in turns])
                    for slot, (position, _) in enumerate(likeness)
                ]
                yield turns, batches

    def _likeness(self, turn: int, step: Step) -> tuple[tuple[int, int], ...]:
        """Equal for steps that can be one. Batches of maps may differ in length; batch norm sees every item."""
        recordings = self.members[turn].recordings
        positions = [
            next(n for n, candidate in enumerate(recordings) if candidate is recording) for recording, _ in step
        ]
        lengths = [len(rows) if self.stacked_twin.twin.core is not None else 0 for _, rows in step]
        return tuple(zip(positions, lengths, strict=True))

    def _part(self, turn: int, recording: ReadoutData, rows: Tensor) -> MemberRows:
        member = self.members[turn]
        return MemberRows(recording, rows, member.same_order, crop(recording, rows, member.settings, member.windows))

    def step(
        self, turns: Sequence[int], batches: Sequence[tuple[int, Sequence[MemberRows]]], rates: Sequence[float]
    ) -> Tensor:
        """Take a step of some members, each on its own batch of one recording or of several; their losses (turns,)."""
        self.stacked_twin.train()
        whole = len(turns) == len(self.members)
        rows = torch.tensor(turns, device=self.device)
        leaves = self.parameters if whole else _leaves(self.parameters, rows)
        buffers = self.buffers if whole else {name: tensor[rows] for name, tensor in self.buffers.items()}
        losses, penalties = [], []
        for position, parts in batches:
            outputs = self._outputs(leaves, buffers | self._noise(turns, position, parts), position, parts)
            losses.append(self._losses(turns, outputs)[0])
            penalties.append(outputs[3])
        total = torch.stack([loss + penalty for loss, penalty in zip(losses, penalties, strict=True)]).mean(dim=0)
        slopes = torch.autograd.grad(total.sum(), list(leaves.values()), allow_unused=True)
        self._update(dict(zip(leaves, slopes, strict=True)), turns, rates)
        if not whole:
            for name, tensor in self.buffers.items():
                tensor[rows] = buffers[name]
        return torch.stack(losses).mean(dim=0).detach()

    def _outputs(self, parameters: Tensors, buffers: Tensors, position: int, parts: Sequence[MemberRows]) -> Any:
        """Outputs of `StackedTwin` for the batches of some members, each tensor with them as its first axis."""
        batch, keys = stacked_batch(parts, self.device), self.groups[position]

        def one(own: Tensors, own_buffers: Tensors, *given: Any) -> Any:
            return functional_call(self.stacked_twin, (own, own_buffers), (keys, *given))

        return vmap(one, in_dims=(0, 0, *batch.dims))(parameters, buffers, *batch.arguments)

    def _losses(self, turns: Sequence[int], outputs: Any) -> tuple[Tensor, Tensor]:
        """Losses of the members and the weights of their entries (turns,)."""
        balance = self.members[0].settings.balance
        losses, weights = self._by_loss(turns, outputs, lambda loss: _measured(loss, balance))
        return losses, weights

    def _by_loss(self, turns: Sequence[int], outputs: Any, measure: Callable[[Loss], Any]) -> list[Tensor]:
        """Measure the outputs of members, each (turns,); members of one loss are taken at a time."""
        names = [self.members[turn].loss() for turn in turns]
        measured, order = [], []
        for name in dict.fromkeys(names):
            rows = [row for row, other in enumerate(names) if other == name]
            parts = (_rows_of(tensors, rows, len(names)) for tensors in outputs[:3])
            measured.append(vmap(measure(LOSSES[name]))(*parts))
            order += rows
        back = torch.tensor(order, device=self.device).argsort()
        return [torch.cat(values)[back] for values in zip(*measured, strict=True)]

    def _noise(self, turns: Sequence[int], position: int, parts: Sequence[MemberRows]) -> Tensors:
        """Draw the noise of every member's parts for its batch, filled with zeros where that was filled."""
        items, shapes = self._shapes(position, parts[0])
        length = max(len(part.rows) for part in parts)
        noise: Tensors = {}
        for name, shape in shapes.items():
            per_item = shape[0] // items
            drawn = []
            for turn, part in zip(turns, parts, strict=True):
                source = _within(self.members[turn].twin, name)
                own = source.fresh((per_item * len(part.rows), *shape[1:]))
                drawn.append(torch.cat([own, own.new_zeros(per_item * (length - len(part.rows)), *shape[1:])]))
            noise[f"{name}.noise"] = torch.stack(drawn).to(self.device)
        return noise

    @torch.no_grad()
    def _shapes(self, position: int, part: MemberRows) -> tuple[int, dict[str, tuple[int, ...]]]:
        """Find how many items a batch has, and what is drawn for it, by showing it to the first member."""
        if position not in self.drawn:
            before, drawing = StateCopy(self.stacked_twin.twin), self.stacked_twin.drawing()
            for source in drawing.values():
                source.shape = ()
            self.stacked_twin(self.groups[position], *stacked_batch([part], self.device).arguments)
            before.restore(self.stacked_twin.twin)
            shapes = {name: source.shape for name, source in drawing.items() if source.shape}
            self.drawn[position] = len(part.rows), shapes
        return self.drawn[position]

    @torch.no_grad()
    def _update(self, slopes: Mapping[str, Tensor | None], turns: Sequence[int], rates: Sequence[float]) -> None:
        """AdamW (Loshchilov and Hutter 2019), as `torch.optim.AdamW`; parameters without a gradient are left alone."""
        whole = len(turns) == len(self.members)
        rows = slice(None) if whole else torch.tensor(turns)
        there = rows if whole else rows.to(self.device)  # type: ignore[union-attr]
        rate = torch.tensor([rates[turn] for turn in turns], dtype=torch.double)
        decay = 1.0 - rate * torch.tensor([self.members[turn].settings.weight_decay for turn in turns])
        for name, slope in slopes.items():
            if slope is None:
                continue
            self.taken[name][rows] += 1.0
            taken = self.taken[name][rows]
            size, root = rate / (1.0 - BETAS[0] ** taken), (1.0 - BETAS[1] ** taken).sqrt()
            stack, moments = self.parameters[name], (self.moments[0][name], self.moments[1][name])
            values, first, second = (tensor[there] for tensor in (stack, *moments))
            decayed, step, scale = (_per_member(factors, stack) for factors in (decay, -size, root))
            first.lerp_(slope, 1.0 - BETAS[0])
            second.mul_(BETAS[1]).addcmul_(slope, slope, value=1.0 - BETAS[1])
            values.mul_(decayed).add_(first * step / (second.sqrt() / scale + EPSILON))
            if not whole:
                stack[there], moments[0][there], moments[1][there] = values, first, second

    # -- evaluation ---------------------------------------------------------------------------------

    @torch.no_grad()
    def select_losses(self, correlations: bool = False) -> tuple[list[float], list[float]]:
        """Compute the `select_loss` of every member (`models.training.twin_loss`).

        With `correlations` also the `select_correlation` of each, NaN otherwise.
        """
        self.stacked_twin.eval()
        turns, total, weight = list(range(len(self.members))), torch.zeros(()), torch.zeros(())
        values = []
        for position in range(len(self.groups)):
            outputs = self._select(position)
            losses, observed = self._losses(turns, outputs)
            total, weight = total.to(losses) + losses * observed, weight.to(losses) + observed
            values += self._by_loss(turns, outputs, _correlated) if correlations else []
        scores = torch.stack(values).mean(dim=0) if values else torch.full_like(total, torch.nan)
        return (total / weight).tolist(), scores.tolist()

    def _select(self, position: int) -> Any:
        """Outputs for the select rows, chunk by chunk."""
        chunked = [_chunks(member, position) for member in self.members]
        parts = [self._outputs(self.parameters, self.buffers, position, rows) for rows in zip(*chunked, strict=True)]
        drives, targets = (
            {key: torch.cat([outputs[place][key] for outputs in parts], dim=1) for key in self.groups[position]}
            for place in (0, 1)
        )
        return drives, targets, parts[0][2], None


def _chunks(member: Member, position: int) -> list[MemberRows]:
    recording = member.recordings[position]
    return [
        MemberRows(recording, rows, (id(recording.select), number))
        for number, rows in enumerate(chunks(recording, recording.select, member.settings))
    ]


def _measured(loss: Loss, balance: str) -> Any:
    def measured(drives: Tensors, targets: Tensors, gammas: Tensors) -> tuple[Tensor, Tensor]:
        outcomes = {key: loss.link(drive) for key, drive in drives.items()}
        return weighted_loss(dict.fromkeys(targets, loss), outcomes, targets, gammas, balance)

    return measured


def _correlated(loss: Loss) -> Any:
    def correlated(drives: Tensors, targets: Tensors, gammas: Tensors) -> tuple[Tensor, ...]:
        return tuple(correlation(loss, loss.link(drives[key]), targets[key], gammas[key]) for key in targets)

    return correlated


def _rows_of(tensors: Tensors, rows: Sequence[int], count: int) -> Tensors:
    if len(rows) == count:
        return tensors
    first, last = rows[0], rows[-1] + 1
    if last - first == len(rows):
        return {key: tensor[first:last] for key, tensor in tensors.items()}
    return {key: tensor[list(rows)] for key, tensor in tensors.items()}


def _leaves(parameters: Tensors, rows: Tensor) -> Tensors:
    return {name: tensor.detach()[rows].requires_grad_() for name, tensor in parameters.items()}


def _stacked(tensors: Sequence[Mapping[str, Tensor]]) -> Tensors:
    return {name: torch.stack([own[name].detach() for own in tensors]) for name in tensors[0]}


def _per_member(factors: Tensor, stack: Tensor) -> Tensor:
    """One factor (members,) for each member of a stack of tensors, to be multiplied with it."""
    return factors.to(stack).reshape(-1, *[1] * (stack.ndim - 1))


def _within(twin: nn.Module, name: str) -> Any:
    return twin.get_submodule(name.removeprefix("twin."))


def _blocks(members: Sequence[Member]) -> dict[str, tuple[int, ...]]:
    """By key, the blocks that any member reads, where members differ in them."""
    first, depths = members[0].twin, [member.twin.depths for member in members]
    if first.core is None or all(own == depths[0] for own in depths):
        return {}
    return {key: tuple(sorted({block for own in depths for block in blocks_of(own[key])})) for key in first.keys}
