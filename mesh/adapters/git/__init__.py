"""Git repositories, by the `git` program: its SSH keys and credential helpers work."""

from mesh.adapters.git.repository import GitOptions, GitRepository, Limits, cache_name

__all__ = ["GitOptions", "GitRepository", "Limits", "cache_name"]
