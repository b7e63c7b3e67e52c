"""`python -m supermask` is `supermask`."""

from supermask.cli import main

if __name__ == "__main__":
    main()
