"""Calls a function of `torch_peers` in a process of its own, where JAX's threads are not."""

import multiprocessing
from typing import Any


def _call(queue, name: str, args, options) -> None:
    import torch_peers

    queue.put(getattr(torch_peers, name)(*args, **options))


def apart(name: str, *args: Any, **options: Any) -> Any:
    """What `torch_peers.NAME(*args, **options)` returns."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_call, args=(queue, name, args, options))
    process.start()
    found = queue.get()
    process.join()
    return found
