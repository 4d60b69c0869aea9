"""Reading `space.depth`; every problem names key, value and what is allowed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from models.component import Parameter
from sweeps.errors import InputError
from sweeps.experiment.depths import (
    ALL,
    ANATOMICAL,
    ANATOMY,
    EVERY,
    LAST,
    MAP_WORDS,
    WORDS,
    AreaDepths,
    DepthMaps,
    Depths,
    Entry,
    listed_blocks,
)
from sweeps.experiment.domains import Choice, by_blocks

if TYPE_CHECKING:
    from sweeps.experiment.space import Space

BLOCK = Parameter(0, "int", low=0)
FORMS = (
    "`all`, a block index or a list of block indices; a list inside the list is read together, "
    f"`{LAST}` is the last block, `{EVERY}` all blocks together"
)


def read_depths(raw: Any, areas: Sequence[str]) -> Depths:
    """Read the `depth` section, checked against the recorded `areas`; InputError otherwise.

    {area: all | list}, {shared: all | list} or {maps: {name: {area: depth} | word}}, see sweeps.experiment.depths.
    """
    if not isinstance(raw, dict) or not raw:
        problem = "must be {area: all | list}, {shared: all | list} or {maps: {name: {area: depth}}}"
        raise InputError(problem, key="space.depth", value=raw)
    for word in ("shared", "maps"):
        if word in raw and len(raw) > 1:
            raise InputError(f"`{word}` stands alone: it ties all areas", key="space.depth", value=raw)
    if "maps" in raw:
        return _read_maps(raw["maps"], areas)
    if "shared" in raw:
        return AreaDepths(dict.fromkeys(areas, _read_list("space.depth.shared", raw["shared"])), shared=True)
    _known(raw, areas, "space.depth")
    return AreaDepths({area: _read_list(f"space.depth.{area}", raw[area]) for area in areas if area in raw})


def _known(raw: dict[str, Any], areas: Sequence[str], key: str) -> None:
    for area in raw:
        if area not in areas:
            raise InputError("no recording has this area", key=f"{key}.{area}", allowed=areas)


def _read_list(key: str, raw: Any) -> tuple[Entry, ...]:
    values = raw if isinstance(raw, list) else [raw]
    if not values:
        raise InputError("must be `all` or a list of block indices", key=key, value=raw)
    entries = {_read_entry(key, value, raw) for value in values}
    return tuple(sorted(entries, key=lambda entry: (_rank(entry), entry)))


def _rank(entry: Entry) -> int:
    return 0 if isinstance(entry, int) else 1 if isinstance(entry, tuple) else 2


def _read_entry(key: str, value: Any, raw: Any) -> Entry:
    if isinstance(value, str) and value in WORDS:
        return value
    if isinstance(value, list) and value and all(BLOCK.accepts(block) for block in value):
        together = tuple(sorted(set(value)))
        return together if len(together) > 1 else together[0]
    if isinstance(value, list) or not BLOCK.accepts(value):
        raise InputError(f"must be {FORMS}", key=key, value=raw)
    return int(value)


def _read_maps(raw: Any, areas: Sequence[str]) -> DepthMaps:
    key = "space.depth.maps"
    if not isinstance(raw, dict) or not raw:
        raise InputError(f"must be {{name: {{area: depth}}}}, or one of {', '.join(MAP_WORDS)}", key=key, value=raw)
    maps: dict[str, dict[str, Entry] | str] = {}
    for name, entries in raw.items():
        maps[str(name)] = entries if isinstance(entries, str) else _read_map(f"{key}.{name}", entries, areas)
        if isinstance(entries, str) and entries not in MAP_WORDS:
            raise InputError("unknown map", key=f"{key}.{name}", value=entries, allowed=MAP_WORDS)
    listed = {name: entries for name, entries in maps.items() if not isinstance(entries, str)}
    wanted = tuple(area for area in areas if not listed or area in next(iter(listed.values())))
    for name, own in listed.items():
        if set(own) != set(wanted):
            problem = "every map must name the same areas"
            raise InputError(problem, key=f"{key}.{name}", value=list(own), allowed=wanted)
    return DepthMaps(wanted, maps)


def _read_map(key: str, raw: Any, areas: Sequence[str]) -> dict[str, Entry]:
    if not isinstance(raw, dict) or not raw:
        raise InputError(f"must be {{area: depth}}, or one of {', '.join(MAP_WORDS)}", key=key, value=raw)
    _known(raw, areas, key)
    if ALL in raw.values():
        raise InputError(f"a map has one depth for every area, not `{ALL}`", key=key, value=raw)
    return {area: _read_entry(f"{key}.{area}", raw[area], raw[area]) for area in areas if area in raw}


def check_depths(space: Space) -> None:
    """Refuse depths that a backbone of the space does not have."""
    for choice in space.backbones:
        counts = _block_counts(choice)
        for blocks in counts:
            _check_blocks(space.depths, choice.name, blocks)
        readouts = space.readouts_for({"name": choice.name})
        single = [readout.name for readout in readouts if not readout.component.together]
        if single:
            _check_single(space.depths, single[0], max(counts))


def _block_counts(choice: Choice) -> list[int]:
    """List every number of blocks that a choice may have; InputError where its parameters contradict each other."""
    try:
        return sorted(by_blocks(choice, choice.boxes()))
    except ValueError as error:
        raise InputError(str(error), key=f"space.backbone.{choice.name}") from None


def _check_blocks(depths: Depths, name: str, blocks: int) -> None:
    for key, entries in _listed(depths):
        if listed_blocks(entries) >= blocks:
            problem = f"beyond the backbone: {name} has blocks 0 to {blocks - 1}"
            raise InputError(problem, key=key, value=listed_blocks(entries))
    if isinstance(depths, DepthMaps) and ANATOMICAL in depths.maps.values():
        missing = [area for area in depths.areas if area not in ANATOMY.get(blocks, {})]
        if missing:
            sizes = ", ".join(map(str, ANATOMY))
            raise InputError(
                f"the anatomical map knows {', '.join(ANATOMY[8])} of cores of {sizes} blocks; {name} has {blocks}",
                key="space.depth.maps",
                value=missing,
            )


def _check_single(depths: Depths, readout: str, blocks: int) -> None:
    """Refuse blocks that are read together, for a readout that reads one."""
    words = depths.maps.items() if isinstance(depths, DepthMaps) else ()
    whole = [(f"space.depth.maps.{name}", (entries,)) for name, entries in words if isinstance(entries, str)]
    for key, entries in [*_listed(depths), *whole]:
        several = [entry for entry in entries if isinstance(entry, tuple) or (entry == EVERY and blocks > 1)]
        if several:
            problem = f"the readout {readout} reads one block, not several together"
            raise InputError(problem, key=key, value=several[0])


def _listed(depths: Depths) -> Iterator[tuple[str, Sequence[Entry]]]:
    """Yield key and entries of everything that is listed by number."""
    if isinstance(depths, AreaDepths):
        for area, listed in depths.listed.items():
            yield ("space.depth.shared" if depths.shared else f"space.depth.{area}"), listed
        return
    for name, entries in depths.maps.items():
        if not isinstance(entries, str):
            for area, entry in entries.items():
                yield f"space.depth.maps.{name}.{area}", (entry,)
