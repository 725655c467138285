"""Paths: how Envoy matches them, and the regular expressions that rewrite them.

Gateway API v1.6 matches a prefix by path element, with or without a trailing slash, and defines
`ReplacePrefixMatch` by a table in which prefix and replacement are compared without their trailing
slashes and the result is never empty. Envoy's `prefix_rewrite` is wrong for `/`, for an empty
replacement and for trailing slashes; its `regex_rewrite` sees the path alone and keeps the query.
"""

import re

from mesh.compiler.generated import JSON
from mesh.model.policy import (
    PathMatch,
    PathMatchType,
    PathModifier,
    ReplaceFullPath,
    ReplacePrefixMatch,
)


def match(path: PathMatch) -> JSON:
    """The path's part of a RouteMatch."""
    match path.type:
        case PathMatchType.EXACT:
            return {"path": path.value}
        case PathMatchType.REGEX:
            return {"safe_regex": {"regex": path.value}}
        case PathMatchType.PREFIX:
            prefix = path.value.rstrip("/")
            return {"path_separated_prefix": prefix} if prefix else {"prefix": "/"}


def rewrite(modifier: PathModifier, matched: PathMatch) -> JSON:
    """The RegexMatchAndSubstitute that makes `modifier`'s path of one that `matched` let in."""
    match modifier:
        case ReplaceFullPath(value):
            return _substitute("^.*$", _literal(value or "/"))
        case ReplacePrefixMatch(value):
            return _replace_prefix(matched.value.rstrip("/"), value.rstrip("/"))


def _replace_prefix(prefix: str, replacement: str) -> JSON:
    """`/foo/bar` with prefix `/foo`: `replacement` + `/bar`; an empty result is `/`."""
    start = "^" + re.escape(prefix)
    if replacement:
        return _substitute(f"{start}(/.*)?$", _literal(replacement) + r"\1")
    return _substitute(f"{start}/?(.*)$", r"/\1")


def _substitute(regex: str, substitution: str) -> JSON:
    return {"pattern": {"regex": regex}, "substitution": substitution}


def _literal(text: str) -> str:
    """RE2 reads a backslash in a substitution as the start of a group's number."""
    return text.replace("\\", "\\\\")
