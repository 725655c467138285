"""The front end: text -> policies, with every mistake at its place."""
