"""The frozen values that every package speaks in. They do no I/O and import no library."""
