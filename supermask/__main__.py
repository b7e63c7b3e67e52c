"""The entry point of `supermask` and of `python -m supermask`."""

import sys

RUNS = ("search", "train", "lottery", "forget", "reproduce", "sweep", "tune")


def main() -> None:
    """Run the command line. Commands that fill run folders handle signals before anything else is imported."""
    from supermask.runtime import signals, stdio

    running = sys.argv[1:2] and sys.argv[1] in RUNS
    if running:
        signals.obey_from_the_start()
    stdio.secure()
    from supermask.runtime.own_modules import forget_current_folder

    forget_current_folder()
    from supermask.cli import main as run

    try:
        run()
    finally:
        if running:
            signals.ignore()


if __name__ == "__main__":
    if not sys.flags.safe_path:
        del sys.path[0]  # the current folder, where a random.py would replace Python's own
    main()
