"""The entry point of `supermask` and of `python -m supermask`."""

import sys

from supermask.runtime import signals, stdio

RUNS = ("search", "train", "reproduce")


def main() -> None:
    """Run the command line. Commands that fill run folders handle signals before anything else is imported."""
    running = sys.argv[1:2] and sys.argv[1] in RUNS
    if running:
        signals.obey_from_the_start()
    stdio.secure()
    from supermask.cli import main as run

    try:
        run()
    finally:
        if running:
            signals.ignore()


if __name__ == "__main__":
    main()
