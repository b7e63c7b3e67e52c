"""Run folders as a search fills them."""

from contextlib import contextmanager

from supermask.runs.folder import claimed


@contextmanager
def open_run(path, config, *, force=False):
    """Claimed and begun."""
    with claimed(path) as folder:
        folder.begin(config, force=force)
        yield folder
