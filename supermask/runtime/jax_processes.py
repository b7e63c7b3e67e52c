"""JAX over several processes: started so that it leaves signals, and the end of a process, to us."""

from __future__ import annotations

import os
from contextlib import suppress

from supermask.errors import SupermaskError, one_line
from supermask.runtime.channel import is_loopback, relay

HEARTBEAT = 24 * 3600
"""Seconds without a sign of life after which JAX would end all processes. Ours notices far earlier, and by other means:
a process that is stopped for minutes is not dead."""

SHUTDOWN = 30
"""Seconds to wait for the others in the end, when all have done their work."""


def start_jax(processes: int, process: int, host: str, port: int, seconds: float) -> None:
    """Join JAX's processes, whose service process 0 offers at a port. JAX must not have been used yet.

    Raises:
        SupermaskError: JAX does not start.
    """
    # gRPC knows this variable in small letters alone.
    os.environ["no_grpc_proxy"] = ",".join([*os.environ.get("no_grpc_proxy", "").split(), "127.0.0.1", host])  # noqa: SIM112
    import jax

    for name, value in (("jax_enable_preemption_service", False), ("jax_check_proxy_envs", False)):
        with suppress(AttributeError):  # a version without it
            jax.config.update(name, value)
    bind = f"{host}:{port}" if is_loopback(host) else None
    try:
        jax.distributed.initialize(
            f"127.0.0.1:{relay(host, port)}" if process else f"{host}:{port}",
            processes,
            process,
            cluster_detection_method="deactivate",
            initialization_timeout=int(seconds),
            heartbeat_timeout_seconds=HEARTBEAT,
            shutdown_timeout_seconds=SHUTDOWN,
            coordinator_bind_address=bind,
        )
    except (RuntimeError, ValueError) as error:
        raise SupermaskError(f"JAX cannot join the processes: {one_line(error)}") from error


def stop_jax() -> None:
    """Leave JAX's processes, when all others do so too."""
    import jax

    with suppress(RuntimeError):  # the work is done, and each process says how its own ended
        jax.distributed.shutdown()
