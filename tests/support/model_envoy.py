"""An Envoy without the Envoy: its side of delta ADS as it was measured on 1.40.

It withholds the answer to a cluster response while a cluster warms; a changed cluster warms until
its endpoints come once more, unasked; a refused response is applied in part and its versions are
forgotten; a route may name a cluster that does not exist; a removed listener drains for a while.
"""

import hashlib
import json
from collections import deque
from collections.abc import Iterable, Mapping

from mesh.model.snapshot import Resource, ResourceType, Snapshot
from mesh.xds.messages import DeltaRequest, DeltaResponse

Reference = tuple[ResourceType, str]
WILDCARDS = (ResourceType.CLUSTER, ResourceType.LISTENER)
# In the order in which Envoy asks on a new stream.
ORDER = (
    ResourceType.CLUSTER,
    ResourceType.ENDPOINTS,
    ResourceType.SECRET,
    ResourceType.LISTENER,
    ResourceType.ROUTE,
    ResourceType.EXTENSION,
)


def resource(
    kind: ResourceType,
    name: str,
    names: Iterable[Reference] = (),
    *,
    edition: int = 0,
    bad: bool = False,
) -> Resource:
    names = tuple(names)
    body = json.dumps([name, names, edition, bad]).encode()
    version = hashlib.sha256(body).hexdigest()[:8]
    return Resource(type=kind, name=name, version=version, body=body, names=names)


def is_bad(item: Resource) -> bool:
    return bool(json.loads(item.body)[3])


def snapshot(*resources: Resource, revision: int = 1) -> Snapshot:
    by_type: dict[ResourceType, dict[str, Resource]] = {}
    for item in resources:
        by_type.setdefault(item.type, {})[item.name] = item
    return Snapshot(revision=revision, resources=by_type)


class ModelEnvoy:
    """`outgoing` are requests for the agent; `live` is what is in force."""

    def __init__(self) -> None:
        self.live: dict[ResourceType, dict[str, Resource]] = {kind: {} for kind in ResourceType}
        self.warming: dict[str, Resource] = {}
        self.draining: list[Resource] = []
        self.outgoing: deque[DeltaRequest] = deque()
        self.received: list[DeltaResponse] = []
        self._known: dict[ResourceType, dict[str, str]] = {kind: {} for kind in ResourceType}
        self._asked: dict[ResourceType, set[str]] = {kind: set() for kind in ResourceType}
        self._open: set[ResourceType] = set()
        self._awaited: set[Reference] = set()
        self._withheld: DeltaRequest | None = None
        self._was_answered = False

    def connect(self) -> None:
        """Open a stream: everything that it has, with versions, in one go."""
        self.outgoing.clear()
        self._open.clear()
        self._withheld = None
        for kind in ORDER:
            if kind is ResourceType.LISTENER and (self.warming or not self._was_answered):
                continue
            if kind in WILDCARDS or self._asked[kind]:
                self._request(kind, sorted(self._asked[kind]), [])

    def handle(self, response: DeltaResponse) -> None:
        self.received.append(response)
        kind = response.type
        for name in response.removed:
            self._remove(kind, name)
        taken = [item for item in response.resources if self._wants(item)]
        errors = [f"{item.name} is bad" for item in taken if is_bad(item)]
        for item in taken:
            self._take(item, is_refused=bool(errors))
        answer = DeltaRequest(
            type=kind, nonce=response.nonce, error="; ".join(errors) if errors else None
        )
        self._warm()
        self._subscribe()
        if kind is ResourceType.CLUSTER:
            self._was_answered = True
            self._withheld = answer
        else:
            self.outgoing.append(answer)
        self._flush()

    def give_up_waiting(self) -> bool:
        """`initial_fetch_timeout` passes: a cluster goes live with what it had (whether any)."""
        if not self.warming:
            return False
        self._awaited.clear()
        self._warm()
        self._subscribe()
        self._flush()
        return True

    @property
    def has_forgotten(self) -> bool:
        """Whether something is live of which the next stream would not tell, or tell wrongly."""
        in_force = {kind: dict(items) for kind, items in self.live.items()}
        in_force[ResourceType.CLUSTER] |= self.warming
        return any(
            self._known[kind].get(name) != item.version
            for kind, items in in_force.items()
            for name, item in items.items()
        )

    def finish_draining(self) -> None:
        self.draining.clear()
        self._subscribe()

    def broken(self) -> list[str]:
        """Clusters that something in force names and that cannot take a request."""
        listeners = [*self.live[ResourceType.LISTENER].values(), *self.draining]
        routes = {
            name for item in listeners for kind, name in item.names if kind is ResourceType.ROUTE
        }
        owners = list(self.live[ResourceType.LISTENER].values())
        owners += [item for name, item in self.live[ResourceType.ROUTE].items() if name in routes]
        return sorted(
            name
            for item in owners
            for kind, name in item.names
            if kind is ResourceType.CLUSTER and name not in self.live[kind]
        )

    # --- inside ------------------------------------------------------------------------------

    def _wants(self, item: Resource) -> bool:
        return item.type in WILDCARDS or item.name in self._asked[item.type]

    def _take(self, item: Resource, *, is_refused: bool) -> None:
        """The good ones of a refused response go live too, but Envoy does not note that."""
        if not is_bad(item):
            self._apply(item)
        self._awaited.discard((item.type, item.name))
        if not is_refused:
            self._known[item.type][item.name] = item.version

    def _remove(self, kind: ResourceType, name: str) -> None:
        self._known[kind].pop(name, None)
        self._awaited.discard((kind, name))
        if kind is ResourceType.LISTENER and name in self.live[kind]:
            self.draining.append(self.live[kind][name])
        if kind in WILDCARDS:
            self.live[kind].pop(name, None)
        if kind is ResourceType.CLUSTER:
            self.warming.pop(name, None)

    def _apply(self, item: Resource) -> None:
        current = self.live[item.type].get(item.name)
        if item.type is ResourceType.CLUSTER:
            if self.warming.get(item.name, current) == item:
                return
            self.warming[item.name] = item
            # The same ConfigSource: an open subscription is not opened again, but waited for.
            self._awaited.update(ref for ref in item.names if ref[0] is ResourceType.ENDPOINTS)
            self._awaited.update(ref for ref in item.names if ref[1] not in self.live[ref[0]])
            return
        if item.type is ResourceType.LISTENER and current is not None and current != item:
            self.draining.append(current)
        self.live[item.type][item.name] = item

    def _warm(self) -> None:
        for name, item in list(self.warming.items()):
            if not self._awaited.intersection(item.names):
                self.live[ResourceType.CLUSTER][name] = self.warming.pop(name)

    def _flush(self) -> None:
        if self.warming:
            return
        if self._withheld is not None:
            self.outgoing.append(self._withheld)
            self._withheld = None
        if self._was_answered and ResourceType.LISTENER not in self._open:
            self._request(ResourceType.LISTENER, [], [])

    def _subscribe(self) -> None:
        owners = [
            *self.live[ResourceType.CLUSTER].values(),
            *self.warming.values(),
            *self.live[ResourceType.LISTENER].values(),
            *self.draining,
        ]
        for kind in ORDER:
            if kind in WILDCARDS:
                continue
            wanted = {name for item in owners for k, name in item.names if k is kind}
            gained, lost = wanted - self._asked[kind], self._asked[kind] - wanted
            self._asked[kind] = wanted
            for name in lost:
                self.live[kind].pop(name, None)
                self._known[kind].pop(name, None)
                self._awaited.discard((kind, name))
            if gained or lost:
                self._request(kind, sorted(gained), sorted(lost))

    def _request(self, kind: ResourceType, subscribe: list[str], unsubscribe: list[str]) -> None:
        versions: Mapping[str, str] = {} if kind in self._open else dict(self._known[kind])
        self._open.add(kind)
        self.outgoing.append(
            DeltaRequest(
                type=kind,
                subscribe=tuple(subscribe),
                unsubscribe=tuple(unsubscribe),
                initial_versions=versions,
            )
        )
