"""Mask criteria: scores of weights from their initial and final values, one family per file."""
