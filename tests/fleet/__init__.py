"""Hundreds of real agents without their Envoys on one machine: `python -m tests.fleet`."""
