"""Where a repository is: a URL, an `scp`-like address or a folder; and how to tell it."""

import re
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from mesh.errors import UsageError

_SCP = re.compile(r"[^/:\s]+:.*")
_SCHEMES = ("file", "git", "http", "https", "ssh", "git+ssh", "ssh+git")


def locate(text: str) -> str:
    """What git takes: a URL as it is, a folder as an absolute path.

    Raises:
        UsageError: it is neither, or of a scheme that would run a program.
    """
    if not text or text.startswith("-") or "\n" in text or "\0" in text:
        raise UsageError(f'--repo: "{text}" is no repository', "write a URL or a folder")
    if "://" in text:
        scheme = text.partition("://")[0].lower()
        if scheme not in _SCHEMES:
            raise UsageError(
                f'--repo: "{redact(text)}" has an unknown scheme', f"known: {', '.join(_SCHEMES)}"
            )
        return text
    folder = Path(text).expanduser()
    if folder.is_dir():
        return str(folder.absolute())
    if "::" not in text and _SCP.fullmatch(text) and not text.startswith(("/", ".", "~")):
        return text
    raise UsageError(f'--repo: there is no folder "{text}"', "write a URL or a folder")


def redact(url: str) -> str:
    """The URL without the password, or the token, that it may carry."""
    if "://" not in url:
        return url
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    if not at:
        return url
    name, colon, _ = user.partition(":")
    # A lone name before the @ of an HTTP URL may be a token.
    shown = f"{name}@" if colon or parts.scheme not in ("http", "https") else ""
    return urlunsplit(parts._replace(netloc=f"{shown}{host}"))
