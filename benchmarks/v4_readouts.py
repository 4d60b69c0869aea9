"""Readouts x losses x blocks on the real V4 recording: which predicts best, with and without the second fit.

    python benchmarks/v4_readouts.py DATA [STORAGE]

DATA is the folder that holds `macaque-v4-201025`. Everything is chosen on the select split; report figures are means
over three seeds, of twins fitted again on train + select, beside those fitted on train alone.
"""

from __future__ import annotations

import sys
from typing import Any

import pandas as pd
from machine import describe_machine

import sweeps

SINGLE = [4, 5, 6, 7, 8]
TOGETHER = [3, 5, 7, 9, 11]
REFIT = {"refit": [True, False]}
GRADIENT = {**REFIT, "epochs": 40, "patience": 5}


def experiment(name: str, depth: list[Any], readout: list[Any]) -> dict[str, Any]:
    """One sweep of readouts and blocks of EfficientNet-lite0 over V4."""
    return {
        "name": name,
        "recordings": [{"format": "folder", "path": "macaque-v4-201025", "image": {"size": 112}}],
        "probes": {},
        "space": {"backbone": "efficientnet-lite0", "depth": {"V4": depth}, "readout": readout, "seed": [0, 1, 2]},
        "scores": ["prediction"],
    }


CLOSED = [
    {"ridge": REFIT},
    {"ridge": {**REFIT, "layer": "nested"}},
    {"srp-ridge": {**REFIT, "kernel": ["projection", "centred", "zscored"]}},
    {"pls": REFIT},
]
DESCENT = [
    {"gaussian": {**GRADIENT, "loss": ["poisson", "gaussian", "correlation"], "l1": 0.003}},
    {"factorised": {**GRADIENT, "loss": ["poisson", "gaussian", "correlation"]}},
    {"mlp": {**REFIT, "hidden": 256, "epochs": 60, "loss": ["poisson", "gaussian", "correlation"]}},
]


def table(cells: pd.DataFrame) -> pd.DataFrame:
    """Mean over seeds by readout, loss and blocks: select, report after the second fit, report without it."""
    keys = ["config.readout", "config.readout.loss", "config.readout.kernel", "config.readout.layer", "blocks"]
    frame = cells[cells["status"] == "done"].copy()
    for key in keys:
        frame[key] = frame[key].fillna("") if key in frame else ""
    scores = ["select.prediction", "score.prediction"]
    means = frame.pivot_table(index=keys, columns="config.readout.refit", values=scores, dropna=False).dropna(how="all")
    return pd.DataFrame(
        {
            "select": means["select.prediction"][True],
            "report": means["score.prediction"][True],
            "report without refit": means["score.prediction"][False],
        }
    ).sort_values("select", ascending=False)


def main() -> None:
    data, storage = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "results/v4-readouts"
    parts = []
    for name, depth, readout in (
        ("closed", [*SINGLE, TOGETHER], CLOSED),
        ("descent", [6, TOGETHER], DESCENT),
    ):
        sweeps.run(experiment(f"v4-{name}", depth, readout), storage=f"{storage}/{name}", data=data)
        parts.append(sweeps.load(f"{storage}/{name}", table="cells"))
    cells = pd.concat(parts, ignore_index=True)
    print(describe_machine())
    print(cells["status"].value_counts().to_string())
    print(table(cells).round(3).to_string())
    best = table(cells)
    single = ~best.index.get_level_values("blocks").str.contains(r"\+")
    for label, rows in (("best single block by select", best[single]), ("several blocks by select", best[~single])):
        print(label, rows.index[0], rows.iloc[0].round(4).to_dict())


if __name__ == "__main__":
    main()
