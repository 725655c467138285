"""Issuance, linting and rotation of X.509-SVIDs, as functions of `now`."""
