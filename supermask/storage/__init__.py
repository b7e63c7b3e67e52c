"""Files that are whole or absent; sealed tensors; packed masks."""
