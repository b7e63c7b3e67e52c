"""Experiment trackers, one per file: a class `Tracker(name, folder, config)` with `log(row)` and `close()`.

`name` is the name of the run, `folder` its run folder, `config` its config. `row` is a row of metrics.jsonl.
"""
