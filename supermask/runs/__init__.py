"""Run folders on disk: filling them, finding them, reading them."""
