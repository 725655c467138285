"""The agent beside one Envoy."""
