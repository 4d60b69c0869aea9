"""Fitting many twins of one shape as a stack: every step of all of them is one vectorised step (`torch.func`)."""
