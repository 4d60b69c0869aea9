"""Ways in which the files of a recording are damaged, by the ending of the file; the same for the same random state."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

from damages.arrays import array_odd, hdf5_odd
from damages.contents import archive_odd, arrays_odd, picture_odd, table_odd, volume_odd, words_odd
from damages.files import (
    a_folder,
    another,
    cut,
    empty,
    flipped,
    folder_in_itself,
    folder_is_a_file,
    gone,
    linked_to_itself,
    linked_to_nothing,
    renamed,
    special,
    text,
)
from damages.manifests import manifest_odd, manifest_whole

Damage = Callable[[Path, Random], None]

ANY: tuple[Damage, ...] = (
    *(cut, cut, empty, flipped, flipped, text, another, gone, renamed, a_folder, folder_is_a_file),
    *(linked_to_itself, linked_to_nothing, folder_in_itself, special),
)
"""Damages of any file."""

BY_ENDING: dict[str, tuple[Damage, ...]] = {
    ".npy": (array_odd,),
    ".npz": (arrays_odd, archive_odd),
    ".json": (manifest_odd, manifest_whole),
    ".yml": (manifest_odd, manifest_odd, manifest_whole),
    ".csv": (table_odd,),
    ".tsv": (table_odd,),
    ".ctab": (words_odd,),
    ".TextGrid": (words_odd,),
    ".png": (picture_odd,),
    ".gz": (volume_odd,),
    ".zip": (archive_odd,),
    **dict.fromkeys((".hdf5", ".hf5", ".hdf", ".nwb"), (hdf5_odd,)),
}
"""Ending of a file -> damages that know what it holds."""
