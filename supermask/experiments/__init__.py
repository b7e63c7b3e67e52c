"""The experiments that a user can run: search, train, evaluate, bench."""
