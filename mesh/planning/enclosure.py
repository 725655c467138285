"""What a commit wrote, enclosed beside head while it is small: who follows need not ask for it.

A copy and nothing to rely on: each piece is stored under its own key as well, and counts only with
the content that its digest names. What is missing here is fetched.
"""

import hashlib
import json
from collections.abc import Mapping

from mesh.planning.record import serialize

# It goes to every sidecar, concerned or not.
MAX_BYTES = 16 * 1024


def enclose(pieces: Mapping[str, bytes]) -> bytes:
    """Parts of a manifest and policies by digest: as many as fit, the first ones first."""
    kept: dict[str, str] = {}
    room = MAX_BYTES
    for digest, data in pieces.items():
        if len(data) <= room:
            room -= len(data)
            kept[digest] = data.decode("utf-8", "surrogatepass")
    return serialize(kept)


def enclosed(data: bytes) -> dict[str, bytes]:
    """The pieces that are what their names say; none of an enclosure that cannot be read."""
    try:
        pieces = {
            digest: text.encode("utf-8", "surrogatepass")
            for digest, text in json.loads(data).items()
        }
    except (ValueError, AttributeError):
        return {}
    return {
        digest: piece
        for digest, piece in pieces.items()
        if hashlib.sha256(piece).hexdigest() == digest
    }
