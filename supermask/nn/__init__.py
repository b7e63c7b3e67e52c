"""Layers that suit the backend."""
