"""Runs from a fresh clone: `python cli.py search --arch conv4` is `supermask search --arch conv4`."""

from supermask.__main__ import main

if __name__ == "__main__":
    main()
