"""`mesh demo`: a small shop as real processes with real sidecars, telling its story."""
