"""Manifests and states of the mesh for tests, in few words."""

import hashlib
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta

from mesh.model.identity import ServiceName
from mesh.model.policy import Address, Kind, PolicyKey, Target
from mesh.model.revision import Manifest, ManifestEntry, Revision
from mesh.model.status import SidecarStatus
from mesh.planning.plan import Desired

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def target(text: str) -> Target:
    """`Service/shop/api`, `Namespace/shop`, `Mesh`, or `shop/api` for a Service."""
    match text.split("/"):
        case ["Mesh"]:
            return Target(Kind.MESH, "default", "mesh")
        case ["Namespace", name]:
            return Target(Kind.NAMESPACE, name, name)
        case [namespace, name]:
            return Target(Kind.SERVICE, namespace, name)
        case [kind, namespace, name]:
            return Target(Kind(kind), namespace, name)
    raise ValueError(text)


def key(text: str) -> PolicyKey:
    """`Service/shop/api`."""
    kind, namespace, name = text.split("/")
    return PolicyKey(kind, namespace, name)


def canonical(name: str, content: str = "") -> bytes:
    """Some canonical JSON."""
    return b'{"name":"%s","spec":{"content":"%s"}}' % (name.encode(), content.encode())


def digest(data: bytes) -> str:
    """As the codec's."""
    return hashlib.sha256(data).hexdigest()


def entry(
    name: str,
    *,
    on: Iterable[str] = (),
    uses: Iterable[str] = (),
    admits: Iterable[str] = (),
    content: str = "",
    source: str = "main",
    file: str = "a.yaml",
    line: int = 1,
    introduced: int = 1,
) -> ManifestEntry:
    """An entry of the document `kind/namespace/name`."""
    return ManifestEntry(
        key=key(name),
        digest=digest(canonical(name, content)),
        source=source,
        file=file,
        line=line,
        introduced=introduced,
        targets=tuple(map(target, on)),
        uses=tuple(map(target, uses)),
        admits=tuple(map(target, admits)),
    )


def manifest(*entries: ManifestEntry) -> Manifest:
    """The entries by key."""
    return {item.key: item for item in entries}


def desired(name: str, content: str = "", *, file: str = "a.yaml", line: int = 1) -> Desired:
    """A document that somebody wants."""
    data = canonical(name, content)
    return Desired(key=key(name), digest=digest(data), file=file, line=line, canonical=data)


def wanted(*documents: Desired) -> dict[PolicyKey, Desired]:
    """The documents by key."""
    return {item.key: item for item in documents}


def revision(number: int = 1, **changes: object) -> Revision:
    """A revision."""
    values: dict[str, object] = {
        "number": number,
        "parent": number - 1,
        "time": NOON,
        "author": "alice <alice@example.org>",
        "message": "add canary",
        "source": "main",
        "commit": None,
        "created": 1,
        "updated": 0,
        "deleted": 0,
    }
    return Revision(**(values | changes))  # type: ignore[arg-type]


def status(id: str, service: str = "default/api", **changes: object) -> SidecarStatus:
    """A sidecar's report."""
    namespace, name = service.split("/")
    values: dict[str, object] = {
        "id": id,
        "service": ServiceName(namespace, name),
        "revision": 1,
        "seen": 1,
        "inbound": Address("127.0.0.1", 15006),
        "outbound": Address("127.0.0.1", 15001),
        "time": NOON,
    }
    return SidecarStatus(**(values | changes))  # type: ignore[arg-type]


class StillClock:
    """A clock that moves only when somebody sleeps."""

    def __init__(self) -> None:
        self.moment = NOON

    def now(self) -> datetime:
        return self.moment

    def monotonic(self) -> float:
        return self.moment.timestamp()

    async def sleep(self, duration: timedelta) -> None:
        self.moment += duration


def namespaces(count: int) -> Iterator[str]:
    """Names of namespaces."""
    return (f"ns{number}" for number in range(count))
