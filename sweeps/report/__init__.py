"""What a person sees of a sweep: its progress, and its answer."""
