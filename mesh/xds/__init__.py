"""Delta ADS without I/O."""
