"""The process itself: its signals, its standard streams, and when it has to stop."""
