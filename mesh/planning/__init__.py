"""Policies -> plan -> transactions: what would change, and how it lies in the store."""
