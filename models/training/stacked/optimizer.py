"""The state of a stack, and one epoch of it: parameters, moments and batches of all members, updated together."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from models.objectives.loss import Loss
from models.objectives.losses import LOSSES
from models.training.data import ReadoutData, Step, chunks, crop, steps
from models.training.early_stopping import Snapshot
from models.training.gradient_fit import correlation, weighed
from models.training.settings import FitSettings
from models.training.stacked.batches import Part, stacked_batch
from models.training.stacked.member import Asked
from models.twin import Twin, blocks_of

BETAS, EPSILON = (0.9, 0.999), 1e-8
"""Of AdamW, as `torch.optim.AdamW` has them."""

Tensors = dict[str, Tensor]


@dataclass
class Member:
    """One twin of a stack: its recordings (see `models.training.gradient_fit.prepared`), its settings and its own draws of orders.

    `same_order` is equal for members that see the same rows in every step.
    """

    twin: Twin
    recordings: Sequence[ReadoutData]
    settings: FitSettings
    kind: Hashable = None
    order: torch.Generator = field(init=False)
    windows: torch.Generator = field(init=False)
    same_order: int = field(init=False)

    def __post_init__(self) -> None:
        self.order, self.windows = (torch.Generator().manual_seed(self.settings.seed) for _ in range(2))
        rows = tuple(recording.train.cpu().numpy().tobytes() for recording in self.recordings)
        chosen = self.settings
        self.same_order = hash((chosen.seed, chosen.batch, chosen.together, chosen.frames, rows))

    def again(self) -> Member:
        """The same member before its first draw of an order."""
        return Member(self.twin, self.recordings, self.settings, self.kind)

    def loss(self) -> str:
        """Name of the loss of its readouts."""
        return str(self.twin.readout(self.twin.keys[0]).given["loss"])


class StackedDescent:
    """AdamW of all members at once, each with its own rate and weight decay: what `models.training.gradient_fit.Descent` does for one.

    A member's numbers are those that it would have alone, up to the order in which floats are added. Members must be
    alike in structure (`models.training.stacked.grouping`). Their twins are left as they are until `write_back`.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = list(members)
        first = members[0].twin
        self.device = next(first.parameters()).device
        self.asked = Asked(first, _blocks(members))
        self.groups = [tuple(recording.responses) for recording in members[0].recordings]
        parameters = [dict(member.twin.named_parameters(prefix="twin")) for member in members]
        buffers = [
            dict(member.twin.named_buffers(prefix="twin")) | self.asked.choices(member.twin) for member in members
        ]
        self.parameters = {name: each.requires_grad_() for name, each in _stacked(parameters).items()}
        self.buffers = {name: each.to(self.device) for name, each in _stacked(buffers).items()}
        self.moments = tuple({name: torch.zeros_like(each) for name, each in self.parameters.items()} for _ in BETAS)
        self.taken = {name: torch.zeros(len(members), dtype=torch.double) for name in self.parameters}
        self.drawn: dict[int, tuple[int, dict[str, tuple[int, ...]]]] = {}

    # -- one member's state -------------------------------------------------------------------------

    def state(self, member: Member) -> Tensors:
        """A copy of a member's parameters and buffers."""
        turn = self.members.index(member)
        return {name: each[turn].detach().clone() for name, each in (self.parameters | self.buffers).items()}

    @torch.no_grad()
    def set_state(self, member: Member, state: Mapping[str, Tensor]) -> None:
        """Put such a copy back."""
        turn = self.members.index(member)
        for name, each in (self.parameters | self.buffers).items():
            each[turn] = state[name]

    @torch.no_grad()
    def write_back(self, member: Member) -> None:
        """Give a member's twin the state that the stack has for it."""
        turn = self.members.index(member)
        held = dict(member.twin.named_parameters(prefix="twin")) | dict(member.twin.named_buffers(prefix="twin"))
        for name, each in held.items():
            each.copy_((self.parameters | self.buffers)[name][turn])

    def keep(self, going: Sequence[Member]) -> None:
        """Go on with some of the members."""
        if len(going) == len(self.members):
            return
        rows = torch.tensor([self.members.index(member) for member in going], dtype=torch.long)
        there = rows.to(self.device)
        self.parameters = {name: each.detach()[there].requires_grad_() for name, each in self.parameters.items()}
        self.buffers = {name: each[there] for name, each in self.buffers.items()}
        self.moments = tuple({name: each[there] for name, each in held.items()} for held in self.moments)
        self.taken = {name: each[rows] for name, each in self.taken.items()}
        self.members = list(going)

    # -- training -----------------------------------------------------------------------------------

    def epoch(self, rates: Sequence[float]) -> list[float]:
        """One epoch of every member at its own learning rate; the mean losses of their steps, without penalties."""
        losses: list[list[Tensor]] = [[] for _ in self.members]
        for turns, batches in self.turns():
            for turn, loss in zip(turns, self.step(turns, batches, rates).unbind(), strict=True):
                losses[turn].append(loss)
        return torch.stack([torch.stack(each).mean() for each in losses]).tolist()

    def turns(self) -> Iterator[tuple[list[int], list[tuple[int, list[Part]]]]]:
        """The steps of an epoch: members that take theirs together, and (recording, parts) of all batches of it."""
        queues = [list(steps(each.recordings, each.settings, each.order)) for each in self.members]
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
        held = self.members[turn].recordings
        positions = [next(n for n, each in enumerate(held) if each is recording) for recording, _ in step]
        lengths = [len(rows) if self.asked.twin.core is not None else 0 for _, rows in step]
        return tuple(zip(positions, lengths, strict=True))

    def _part(self, turn: int, recording: ReadoutData, rows: Tensor) -> Part:
        member = self.members[turn]
        return Part(recording, rows, member.same_order, crop(recording, rows, member.settings, member.windows))

    def step(
        self, turns: Sequence[int], batches: Sequence[tuple[int, Sequence[Part]]], rates: Sequence[float]
    ) -> Tensor:
        """One step of some members, each on its own batch of one recording or of several; their losses (turns,)."""
        self.asked.train()
        whole = len(turns) == len(self.members)
        rows = torch.tensor(turns, device=self.device)
        leaves = self.parameters if whole else _leaves(self.parameters, rows)
        buffers = self.buffers if whole else {name: each[rows] for name, each in self.buffers.items()}
        losses, prices = [], []
        for position, parts in batches:
            said = self._said(leaves, buffers | self._noise(turns, position, parts), position, parts)
            losses.append(self._losses(turns, said)[0])
            prices.append(said[3])
        total = torch.stack([loss + price for loss, price in zip(losses, prices, strict=True)]).mean(dim=0)
        slopes = torch.autograd.grad(total.sum(), list(leaves.values()), allow_unused=True)
        self._update(dict(zip(leaves, slopes, strict=True)), turns, rates)
        if not whole:
            for name, each in self.buffers.items():
                each[rows] = buffers[name]
        return torch.stack(losses).mean(dim=0).detach()

    def _said(self, parameters: Tensors, buffers: Tensors, position: int, parts: Sequence[Part]) -> Any:
        """What `Asked` says of the batches of some members, each tensor with them as its first axis."""
        batch, keys = stacked_batch(parts, self.device), self.groups[position]

        def one(own: Tensors, held: Tensors, *given: Any) -> Any:
            return functional_call(self.asked, (own, held), (keys, *given))

        return vmap(one, in_dims=(0, 0, *batch.dims))(parameters, buffers, *batch.arguments)

    def _losses(self, turns: Sequence[int], said: Any) -> tuple[Tensor, Tensor]:
        """Losses of the members and the weights of their entries (turns,)."""
        balance = self.members[0].settings.balance
        losses, weights = self._by_loss(turns, said, lambda loss: _measured(loss, balance))
        return losses, weights

    def _by_loss(self, turns: Sequence[int], said: Any, measure: Callable[[Loss], Any]) -> list[Tensor]:
        """What a measure makes of what members say, each (turns,); members of one loss are taken at a time."""
        names = [self.members[turn].loss() for turn in turns]
        found, order = [], []
        for name in dict.fromkeys(names):
            rows = [row for row, other in enumerate(names) if other == name]
            found.append(vmap(measure(LOSSES[name]))(*(_rows_of(each, rows, len(names)) for each in said[:3])))
            order += rows
        back = torch.tensor(order, device=self.device).argsort()
        return [torch.cat(parts)[back] for parts in zip(*found, strict=True)]

    def _noise(self, turns: Sequence[int], position: int, parts: Sequence[Part]) -> Tensors:
        """What the drawing parts of every member draw for its batch, filled with zeros where that was filled."""
        items, shapes = self._shapes(position, parts[0])
        length = max(len(part.rows) for part in parts)
        noise: Tensors = {}
        for name, shape in shapes.items():
            each = shape[0] // items
            drawn = []
            for turn, part in zip(turns, parts, strict=True):
                source = _within(self.members[turn].twin, name)
                own = source.fresh((each * len(part.rows), *shape[1:]))
                drawn.append(torch.cat([own, own.new_zeros(each * (length - len(part.rows)), *shape[1:])]))
            noise[f"{name}.noise"] = torch.stack(drawn).to(self.device)
        return noise

    @torch.no_grad()
    def _shapes(self, position: int, part: Part) -> tuple[int, dict[str, tuple[int, ...]]]:
        """How many items a batch of a recording had, and what was drawn for it: found by showing it to the first."""
        if position not in self.drawn:
            before, drawing = Snapshot(self.asked.twin), self.asked.drawing()
            for source in drawing.values():
                source.shape = ()
            self.asked(self.groups[position], *stacked_batch([part], self.device).arguments)
            before.restore(self.asked.twin)
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
            held = self.parameters[name]
            values, first, second = (each[there] for each in (held, self.moments[0][name], self.moments[1][name]))
            decayed, step, scale = (each.to(held).reshape(-1, *[1] * (held.ndim - 1)) for each in (decay, -size, root))
            first.lerp_(slope, 1.0 - BETAS[0])
            second.mul_(BETAS[1]).addcmul_(slope, slope, value=1.0 - BETAS[1])
            values.mul_(decayed).add_(first * step / (second.sqrt() / scale + EPSILON))
            if not whole:
                held[there], self.moments[0][name][there], self.moments[1][name][there] = values, first, second

    # -- evaluation ---------------------------------------------------------------------------------

    @torch.no_grad()
    def select_losses(self, correlations: bool = False) -> tuple[list[float], list[float]]:
        """Losses of the select rows of all recordings of every member, see `models.training.gradient_fit.select_loss`.

        With `correlations` also what `models.training.gradient_fit.select_correlation` says of each, NaN otherwise.
        """
        self.asked.eval()
        turns, total, weight = list(range(len(self.members))), torch.zeros(()), torch.zeros(())
        found = []
        for position in range(len(self.groups)):
            said = self._select(position)
            losses, seen = self._losses(turns, said)
            total, weight = total.to(losses) + losses * seen, weight.to(losses) + seen
            found += self._by_loss(turns, said, _correlated) if correlations else []
        scores = torch.stack(found).mean(dim=0) if found else torch.full_like(total, torch.nan)
        return (total / weight).tolist(), scores.tolist()

    def _select(self, position: int) -> Any:
        """What is said of the select rows, chunk by chunk."""
        chunked = [_chunks(member, position) for member in self.members]
        said = [self._said(self.parameters, self.buffers, position, parts) for parts in zip(*chunked, strict=True)]
        drives, seen = (
            {key: torch.cat([each[turn][key] for each in said], dim=1) for key in self.groups[position]}
            for turn in (0, 1)
        )
        return drives, seen, said[0][2], None


def _chunks(member: Member, position: int) -> list[Part]:
    recording = member.recordings[position]
    return [
        Part(recording, rows, (id(recording.select), number))
        for number, rows in enumerate(chunks(recording, recording.select, member.settings))
    ]


def _measured(loss: Loss, balance: str) -> Any:
    def measured(drives: Tensors, seen: Tensors, gammas: Tensors) -> tuple[Tensor, Tensor]:
        said = {key: loss.link(drive) for key, drive in drives.items()}
        return weighed(dict.fromkeys(seen, loss), said, seen, gammas, balance)

    return measured


def _correlated(loss: Loss) -> Any:
    def correlated(drives: Tensors, seen: Tensors, gammas: Tensors) -> tuple[Tensor, ...]:
        return tuple(correlation(loss, loss.link(drives[key]), seen[key], gammas[key]) for key in seen)

    return correlated


def _rows_of(tensors: Tensors, rows: Sequence[int], count: int) -> Tensors:
    if len(rows) == count:
        return tensors
    first, last = rows[0], rows[-1] + 1
    if last - first == len(rows):
        return {key: each[first:last] for key, each in tensors.items()}
    return {key: each[list(rows)] for key, each in tensors.items()}


def _leaves(parameters: Tensors, rows: Tensor) -> Tensors:
    return {name: each.detach()[rows].requires_grad_() for name, each in parameters.items()}


def _stacked(held: Sequence[Mapping[str, Tensor]]) -> Tensors:
    return {name: torch.stack([each[name].detach() for each in held]) for name in held[0]}


def _within(twin: nn.Module, name: str) -> Any:
    return twin.get_submodule(name.removeprefix("twin."))


def _blocks(members: Sequence[Member]) -> dict[str, tuple[int, ...]]:
    """By key, the blocks that any member reads, where members differ in them."""
    first, depths = members[0].twin, [member.twin.depths for member in members]
    if first.core is None or all(each == depths[0] for each in depths):
        return {}
    return {key: tuple(sorted({block for each in depths for block in blocks_of(each[key])})) for key in first.keys}
