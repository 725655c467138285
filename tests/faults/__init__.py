"""Faults, each under constant load through real sidecars: `python -m tests.faults [NAME...]`."""
