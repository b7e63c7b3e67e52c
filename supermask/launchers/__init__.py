"""Where the calls of a sweep are executed, one way a file; see `experiments.sweep.Launcher`."""
