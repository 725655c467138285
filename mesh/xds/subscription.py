"""One resource type on one stream: what Envoy asked for, has, and was sent last."""

from collections.abc import Mapping

from mesh.model.snapshot import Resource, ResourceType
from mesh.xds.messages import DeltaRequest, DeltaResponse

_WILDCARD = "*"
_WILDCARD_TYPES = frozenset({ResourceType.CLUSTER, ResourceType.LISTENER})


class Subscription:
    """Which names to look at (`due`), and what is known of Envoy's side of each.

    `accepted` maps names to the version that Envoy has for certain. `doubtful` names were in a
    refused response, of which Envoy applies a part: whether it has the version that they map to
    is unknown (empty: one of several). `due` are the names to examine; those `asked` for are
    answered even if Envoy has them.
    """

    def __init__(self, request: DeltaRequest) -> None:
        self.type = request.type
        self.wildcard = _WILDCARD in request.subscribe or (
            request.type in _WILDCARD_TYPES and not request.subscribe
        )
        self.names = set(request.subscribe) - {_WILDCARD}
        self.accepted = dict(request.initial_versions)
        self.doubtful: dict[str, str] = {}
        self.due: set[str] = set()
        self.asked = set(self.names)
        # Envoy starts serving only after the first answer to a wildcard, be it empty. On a later
        # stream its ACK says that all first requests, sent at once, have arrived.
        self.is_answer_owed = self.wildcard
        self.in_flight: DeltaResponse | None = None

    def wants(self, name: str) -> bool:
        """Whether Envoy would take this resource now."""
        return self.wildcard or name in self.names

    def has(self, name: str) -> bool:
        """Whether Envoy certainly has some version of it, and is not being told to drop it."""
        return name in self.accepted

    def may_have(self, name: str) -> bool:
        """Whether Envoy has it, or has it perhaps after a refusal."""
        return name in self.accepted or name in self.doubtful

    def change(self, request: DeltaRequest) -> None:
        """Take over a later request's changes of subscriptions."""
        for name in request.unsubscribe:
            if name == _WILDCARD:
                self.wildcard = False
            self.names.discard(name)
            if not self.wildcard:
                self.accepted.pop(name, None)
                self.doubtful.pop(name, None)
                self.due.discard(name)
                self.asked.discard(name)
        for name in request.subscribe:
            if name == _WILDCARD:
                self.wildcard = True
                self.is_answer_owed = True
            else:
                self.names.add(name)
                self.ask(name)

    def ask(self, name: str) -> None:
        """Make sure that `name` is sent again, whatever Envoy has."""
        self.asked.add(name)
        self.due.add(name)

    def retarget(self, resources: Mapping[str, Resource]) -> None:
        """Find every name that may need an answer now that `resources` are wanted."""
        self.due = {
            name
            for name, resource in resources.items()
            if self.accepted.get(name) != resource.version and self.wants(name)
        }
        self.due |= self.asked | self.doubtful.keys()
        if self.wildcard:
            self.due |= self.accepted.keys() - resources.keys()

    def drop(self, name: str) -> None:
        """There is nothing to say about `name` any more."""
        self.due.discard(name)
        self.asked.discard(name)

    def sent(self, response: DeltaResponse) -> None:
        """Take over that `response` is on its way."""
        self.in_flight = response
        self.is_answer_owed = False
        for resource in response.resources:
            self.drop(resource.name)
        for name in response.removed:
            self.drop(name)
            self.accepted.pop(name, None)

    def accept(self, response: DeltaResponse) -> None:
        """Envoy has applied all of `response`."""
        self.in_flight = None
        for resource in response.resources:
            self.doubtful.pop(resource.name, None)
            if self.wants(resource.name):
                self.accepted[resource.name] = resource.version
                self.due.add(resource.name)  # it may be unwanted or old news by now
        for name in response.removed:
            self.doubtful.pop(name, None)

    def refuse(self, response: DeltaResponse) -> Resource | None:
        """Envoy has refused `response`; the guilty resource, if it was alone. Otherwise Envoy
        has applied an unknown part of it.
        """
        self.in_flight = None
        if not response.resources:
            return None  # a removal cannot fail
        for name in response.removed:
            self._doubt(name, "")
        for resource in response.resources:
            self.due.add(resource.name)
            if len(response.resources) > 1:
                self._doubt(resource.name, resource.version)
            elif self.doubtful.get(resource.name) == resource.version:
                del self.doubtful[resource.name]
        return response.resources[0] if len(response.resources) == 1 else None

    def _doubt(self, name: str, version: str) -> None:
        if self.wants(name):
            known = self.doubtful.setdefault(name, version)
            self.doubtful[name] = version if known == version else ""
            self.due.add(name)
