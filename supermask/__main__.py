"""The entry point of `supermask` and of `python -m supermask`."""

import sys

from supermask import signals

SEARCHING = ("search", "reproduce")


def main() -> None:
    """Run the command line; a command that searches obeys signals before anything else is imported."""
    if sys.argv[1:2] and sys.argv[1] in SEARCHING:
        signals.obey_from_the_start()
    from supermask.cli import main as run

    run()


if __name__ == "__main__":
    main()
