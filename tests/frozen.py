"""One readout of a frozen backbone's maps, fitted alone."""

from dataclasses import replace

from models.readouts.protocol import Readout
from models.readouts.sampling import as_list
from models.training.frozen_backbone import FrozenFit, fit_frozen_many


def fit_frozen(fit: FrozenFit) -> Readout:
    """Fit a readout of one map or several; with `refit` it is the second one. Raises the error of the fit."""
    (((_, fitted),),) = fit_frozen_many([replace(fit, maps=as_list(fit.maps))])
    if isinstance(fitted, Exception):
        raise fitted
    return fitted.report
