"""Gaussian readouts with latent factors."""

from __future__ import annotations

from models.component import Component, Parameter

NO_LATENTS = {"latents": (0,)}

COMPONENT = Component(
    target="",  # fitted by `models.latents`, a floor above
    version=1,
    fitted_by="latent",
    together=False,
    ignores=("behaviour", "gaze", "together"),
    parameters={
        "likelihood": Parameter("zero-inflated-gamma", "str", words=("zero-inflated-gamma", "poisson")),
        "latents": Parameter(12, "int", low=0),
        "kl": Parameter("posterior-prior", "str", words=("posterior-prior", "prior-posterior"), idle=NO_LATENTS),
        "kl_weight": Parameter(1.0, "float", low=0, idle=NO_LATENTS),
        "mask": Parameter("entry", "str", words=("entry", "unit"), idle=NO_LATENTS),
        "mask_rate": Parameter(0.5, "float", positive=True, high=0.99, idle=NO_LATENTS),
        "samples": Parameter(10, "int", low=1, idle=NO_LATENTS),
        "posterior": Parameter("scalar", "str", words=("scalar", "diagonal", "time"), idle=NO_LATENTS),
        "memory": Parameter(0.0, "float", low=0, high=0.999, idle=NO_LATENTS),
        "loadings": Parameter("free", "str", words=("free", "position"), idle=NO_LATENTS),
        "position": Parameter("free", "str", words=("free", "coordinates")),
        "mixing": Parameter(False, "bool"),
        "rho": Parameter(0.005, "float", positive=True, idle={"likelihood": ("poisson",)}),
        "shape": Parameter("learned", "str", words=("learned", "fixed"), idle={"likelihood": ("poisson",)}),
        "pretrained": Parameter(True, "bool", idle=NO_LATENTS),
    },
    summary="Gaussian readouts whose units share latent factors, fitted to single trials of clips",
)
