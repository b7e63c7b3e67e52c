"""The entry point of `supermask` and of `python -m supermask`."""

import sys

from supermask.runtime import signals, stdio

SEARCHING = ("search", "reproduce")


def main() -> None:
    """Run the command line. Commands that search handle signals before anything else is imported."""
    searching = sys.argv[1:2] and sys.argv[1] in SEARCHING
    if searching:
        signals.obey_from_the_start()
    stdio.secure()
    from supermask.cli import main as run

    try:
        run()
    finally:
        if searching:
            signals.ignore()


if __name__ == "__main__":
    main()
