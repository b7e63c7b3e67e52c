"""The process: signals, standard streams, stopping, and how JAX is to find its devices."""
