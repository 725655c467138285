"""What users ask for: async functions over the ports, each a short story of calls to the core."""
