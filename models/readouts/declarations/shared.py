"""What several readouts declare alike: what closed forms read, and how gradient fits are run."""

from __future__ import annotations

from models.component import Parameter

ALPHA = Parameter("auto", "float", words=("auto",), positive=True)

LINEAR = {
    "pool": Parameter(7, "int", low=1),
    "delays": Parameter(0, "int", low=0),
}
"""What a readout in closed form reads: maps averaged to at most `pool` a side, and delayed copies of them."""

TRAINING = {
    "learning_rate": Parameter(0.01, "float", positive=True),
    "epochs": Parameter(100, "int", low=1),
    "patience": Parameter(8, "int", low=1),
    "pool": Parameter(14, "int", low=1),
}
"""How a readout is fitted by gradient descent, and to how many positions a side maps are averaged first."""

REFIT = {
    "balance": Parameter("none", "str", words=("none", "areas"), joint=True),
    "refit": Parameter(False, "bool"),
}
