"""Brain-guided synthesis: pictures that drive what a twin predicts.

All of it needs one thing only, a differentiable function from pictures (n, 3, h, w) in [0, 1] to responses (n, units).
`objective` says what is to be driven, `fourier` climbs in the space of Fourier coefficients, `diffusion` bends the
steps of a diffusion model (`pipeline` loads one). Importing this imports no torch.
"""
