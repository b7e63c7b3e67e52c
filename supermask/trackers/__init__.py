"""One tracker of experiments per file: a class `Tracker(name, folder, config)` with `log(row)` and `close()`."""
