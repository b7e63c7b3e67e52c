"""Layers and numeric types that suit the backend."""
