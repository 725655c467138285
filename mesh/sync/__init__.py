"""`mesh sync`: a source that follows a branch of a git repository."""
