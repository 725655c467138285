"""The back end: policies, catalog and placement -> view -> xDS."""
