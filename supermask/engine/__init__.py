"""The compiled core around `supermask.core`: problems, programs, and the trainer that drives them."""
