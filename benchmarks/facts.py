"""What a figure belongs to: machine, versions and commit, for the JSON line of every script."""

import os
import platform
import subprocess
from pathlib import Path


def facts() -> dict[str, object]:
    """Machine, cores, device, versions of Python and JAX, commit."""
    import jax  # a script that sets JAX up does so before

    here = Path(__file__).parent
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=here, capture_output=True, text=True, check=False
    )
    return {
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "device": jax.devices()[0].device_kind,
        "python": platform.python_version(),
        "jax": jax.__version__,
        "commit": commit.stdout.strip(),
    }
