"""What lies on disk: files that are whole or absent, sealed tensors, packed masks."""
