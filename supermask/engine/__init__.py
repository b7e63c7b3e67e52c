"""Compiles the steps of `supermask.core` and runs them: problems, programs, and the trainer that drives them."""
