"""The back end: view -> xDS."""
