"""Join tokens: what a host shows to get its first certificate, and what may become of one.

A token is 256 random bits, shown once. What is kept is its SHA-256, which is the record's key:
whoever reads the store learns no token. (A slow hash guards guessable secrets; nobody guesses
256 bits.)
"""

import hashlib
import json
import re
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from mesh.model.identity import ServiceName

PREFIX = "mesh_join_"
SECRET_BYTES = 32
MAX_TTL = timedelta(days=30)
MAX_USES = 1000
# A record stays for a while after its end, so that a late host is told "expired", not "unknown".
KEPT = timedelta(days=7)

_ID_LENGTH = 12
_FORM = re.compile(re.escape(PREFIX) + r"[A-Za-z0-9_-]{43}", re.ASCII)


class Refusal(StrEnum):
    """Why a token admits nobody; the words are codes of the API and of the metrics."""

    UNKNOWN = "token-unknown"
    EXPIRED = "token-expired"
    USED = "token-used"
    OTHER_SERVICE = "token-other-service"


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinToken:
    """A token's record. `uses` is how many joins are left; `keys` are the digests of the public
    keys that joined, so that a join whose answer was lost may be asked again.
    """

    id: str
    service: ServiceName
    created: datetime
    expires: datetime
    uses: int
    keys: tuple[str, ...] = field(default=(), repr=False)

    def state(self, now: datetime) -> str:
        """In a word: `valid`, `used` or `expired`."""
        if now >= self.expires:
            return "expired"
        return "valid" if self.uses else "used"


def token_of(secret: str) -> str:
    """The token of `SECRET_BYTES` random bytes in URL-safe base 64."""
    return PREFIX + secret


def is_token(text: str) -> bool:
    """Whether a text has a token's form."""
    return _FORM.fullmatch(text) is not None


def digest_of(token: str) -> str:
    """SHA-256 in hexadecimal: what is kept of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def id_of(digest: str) -> str:
    """The name that people and the log call a token by."""
    return digest[:_ID_LENGTH]


def redeem(token: JoinToken, service: ServiceName, key: str, now: datetime) -> JoinToken | Refusal:
    """The record after a join of `service` with the public key of digest `key`.

    The same key joins as often as it likes until the token expires, and spends one use in all:
    its holder gains nothing by it, and a lost answer costs no token.
    """
    if now >= token.expires:
        return Refusal.EXPIRED
    if service != token.service:
        return Refusal.OTHER_SERVICE
    if key in token.keys:
        return token
    if token.uses < 1:
        return Refusal.USED
    return replace(token, uses=token.uses - 1, keys=(*token.keys, key))


def write_token(token: JoinToken) -> bytes:
    """The record's bytes; `read_token` is the inverse."""
    value = {
        "id": token.id,
        "service": [token.service.namespace, token.service.name],
        "created": token.created.isoformat(),
        "expires": token.expires.isoformat(),
        "uses": token.uses,
        "keys": list(token.keys),
    }
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def read_token(content: bytes) -> JoinToken:
    """Read a record.

    Raises:
        ValueError: it is none.
    """
    try:
        value = json.loads(content)
        return JoinToken(
            id=str(value["id"]),
            service=ServiceName(*value["service"]),
            created=datetime.fromisoformat(value["created"]),
            expires=datetime.fromisoformat(value["expires"]),
            uses=int(value["uses"]),
            keys=tuple(value["keys"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a join token's record: {error!r}") from error
