"""A single sheet of spiking neurons that wires itself up by STDP: a reference design of ours, in plain pieces."""
