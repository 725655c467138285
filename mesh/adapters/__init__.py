"""One module per technology; none knows another."""
