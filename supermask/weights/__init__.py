"""Frozen weights from (init, seed, shapes), and which parameters are maskable."""
