"""Frozen weights from (init, seed, shapes), and what of them is maskable."""
