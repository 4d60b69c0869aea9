"""Readouts that are linear, in closed form: ridge and banded ridge, partial least squares, projections, delays."""
