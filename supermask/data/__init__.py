"""Examples on their way to the device."""
