"""Twins of clips whose units share latent factors: the twin, its populations, recognition, data and fit."""
