"""The gallery of a guided synthesis as one picture: guided, unguided and natural, the same seeds in the columns."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from models.backbones import BACKBONES
from sweeps.report.plain_text import name_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sweeps.guidance.synthesis import PictureSets

COLUMNS = 12
"""Seeds that are shown; all of them are files beside the gallery."""

ROWS = {"guided": "guided", "unguided": "unguided,\nsame seed", "natural": "best natural"}
COLOURS = {"guided": "#c44e52", "unguided": "#4c72b0", "natural": "#8c8c8c"}


def gallery(
    rows: Sequence[Mapping[str, Any]], pictures: PictureSets, activities: Sequence[Mapping[str, np.ndarray]]
) -> bytes:
    """Draw a PNG: rows = guided, unguided and best natural pictures, columns = seeds; below, histograms of activity.

    `rows` are those of the table `guidance`, the guiding twin's first; `activities` are each twin's for the pictures
    of every kind, in its own standard deviations over natural pictures. Below every picture stands the guiding twin's
    activity, then the mean of its judges'. The held-out prediction of every twin is printed above.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    best = np.argsort(-activities[0]["natural"], kind="stable")
    order = {"guided": np.arange(len(pictures.guided)), "unguided": np.arange(len(pictures.unguided)), "natural": best}
    columns = min(COLUMNS, len(pictures.guided))
    figure = Figure(figsize=(1.5 + 1.25 * max(columns, 5), 7.4), dpi=100, layout="constrained")
    figure.suptitle(title(rows), fontsize=10, x=0.01, ha="left", parse_math=False)
    grid = figure.add_gridspec(4, columns, height_ratios=[1, 1, 1, 1.2])
    for line, (kind, label) in enumerate(ROWS.items()):
        for column, index in enumerate(order[kind][:columns]):
            axes = figure.add_subplot(grid[line, column])
            _picture(axes, pictures.of(kind)[index].permute(1, 2, 0).numpy())
            axes.set_xlabel(_activity([activity[kind][index] for activity in activities]), fontsize=7)
            if line == 0:
                axes.set_title(f"seed {index}", fontsize=8)
            if column == 0:
                axes.set_ylabel(label, fontsize=9)
    _histograms(figure.add_subplot(grid[3, :]), activities[0])
    file = io.BytesIO()
    FigureCanvasAgg(figure).print_png(file)
    return file.getvalue()


def title(rows: Sequence[Mapping[str, Any]]) -> str:
    """Say what was driven, by which twin, and how well every twin predicts held-out responses."""
    guide, judges = rows[0], rows[1:]
    named = [f"{twin_name(row)} ({row['prediction']:.2f})" for row in rows]
    transfer = f", transfer gain {guide['transfer_gain']:+.2f} sd" if judges else ""
    return (
        f"{driven(guide)} of {name_text(guide['recording'])}, {guide['method']}: gain over best natural "
        f"{guide['gain_over_best']:+.2f} sd, over unguided {guide['gain_over_unguided']:+.2f} sd{transfer}\n"
        f"guide (held-out prediction): {named[0]}\njudges: {'; '.join(named[1:]) or 'none'}"
        "; below each picture: sd by the guide | mean of the judges"
    )


def driven(row: Mapping[Any, Any]) -> str:
    """Name the area that a row is about, or its contrast."""
    contrast = f" - {row['weight']:g} {name_text(row['against'])}" if isinstance(row["against"], str) else ""
    return f"{name_text(row['area'])}{contrast}"


def twin_name(row: Mapping[Any, Any]) -> str:
    """Name a twin: backbone with the parameters that differ from their defaults, the block that is read, readout.

    Of a backbone that is not installed here no default is known: all its parameters are named.
    """
    settings = {key: value for key, value in json.loads(row["config"])["backbone"].items() if key != "name"}
    component = BACKBONES.installed(row["backbone"])
    if component is not None:
        defaults = {key: parameter.default for key, parameter in component.parameters.items()}
        settings = {key: value for key, value in settings.items() if key in defaults and value != defaults[key]}
    return " ".join([row["backbone"], *map(str, settings.values()), "block", str(row["depth"]), row["readout"]])


def _activity(values: Sequence[float]) -> str:
    """Write the activity by the guiding twin, then the mean by its judges."""
    judged = f" | {np.mean(values[1:]):+.1f}" if len(values) > 1 else ""
    return f"{values[0]:+.1f}{judged}"


def _picture(axes: Axes, pixels: np.ndarray) -> None:
    axes.imshow(pixels, vmin=0, vmax=1, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])


def _histograms(axes: Axes, activity: Mapping[str, np.ndarray]) -> None:
    """Plot densities of the guiding twin's activity for natural pictures, and a line for every synthesised one."""
    low = min(float(values.min()) for values in activity.values())
    high = max(float(values.max()) for values in activity.values())
    axes.hist(activity["natural"], bins=30, range=(low, high), color=COLOURS["natural"], label="natural pictures")
    for kind in ("unguided", "guided"):
        for place, value in enumerate(activity[kind]):
            axes.axvline(value, color=COLOURS[kind], linewidth=1.2, label=None if place else kind)
    axes.set_xlabel("activity that the guiding twin predicts (standard deviations over natural pictures)", fontsize=8)
    axes.set_ylabel("natural pictures", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.legend(fontsize=7, frameon=False)
