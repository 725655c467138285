"""A session talked to by hand: a few resources, and Envoy's part of the conversation."""

from mesh.model.snapshot import Resource, ResourceType
from mesh.xds.messages import DeltaRequest, DeltaResponse
from mesh.xds.protocol import Session
from mesh.xds.publisher import Publisher
from tests.support.model_envoy import resource, snapshot

CLUSTER, ENDPOINTS = ResourceType.CLUSTER, ResourceType.ENDPOINTS
LISTENER, ROUTE = ResourceType.LISTENER, ResourceType.ROUTE
SECRET, EXTENSION = ResourceType.SECRET, ResourceType.EXTENSION


def cluster(name: str, edition: int = 0, *, secret: str | None = None) -> Resource:
    secrets = [(SECRET, secret)] if secret else []
    return resource(CLUSTER, name, [(ENDPOINTS, name), *secrets], edition=edition)


def endpoints(name: str, edition: int = 0) -> Resource:
    return resource(ENDPOINTS, name, edition=edition)


def route(*clusters: str) -> Resource:
    return resource(ROUTE, "web", [(CLUSTER, name) for name in clusters])


def listener(edition: int = 0, *, names: tuple[tuple[ResourceType, str], ...] = ()) -> Resource:
    return resource(LISTENER, "web", [(ROUTE, "web"), *names], edition=edition)


class Talk:
    """A session with its publisher, and what was said last of each type."""

    def __init__(self) -> None:
        self.publisher = Publisher()
        self.session = Session(self.publisher)
        self.last: dict[ResourceType, DeltaResponse] = {}

    def publish(self, *resources: Resource) -> list[DeltaResponse]:
        self.publisher.publish(snapshot(*resources, revision=7))
        return self._note(self.session.advance())

    def offer_again(self) -> list[DeltaResponse]:
        self.publisher.offer_again(self.publisher.outcome.rejections)
        return self._note(self.session.advance())

    def ask(
        self,
        kind: ResourceType,
        *names: str,
        has: tuple[Resource, ...] = (),
        without: tuple[str, ...] = (),
    ) -> list[DeltaResponse]:
        versions = {item.name: item.version for item in has}
        request = DeltaRequest(
            type=kind, subscribe=names, unsubscribe=without, initial_versions=versions
        )
        return self._note(self.session.receive(request))

    def ack(self, kind: ResourceType) -> list[DeltaResponse]:
        return self._answer(kind, None)

    def nack(self, kind: ResourceType, error: str = "no") -> list[DeltaResponse]:
        return self._answer(kind, error)

    def _answer(self, kind: ResourceType, error: str | None) -> list[DeltaResponse]:
        request = DeltaRequest(type=kind, nonce=self.last[kind].nonce, error=error)
        return self._note(self.session.receive(request))

    def _note(self, responses: list[DeltaResponse]) -> list[DeltaResponse]:
        self.last |= {response.type: response for response in responses}
        return responses

    def settle(self) -> None:
        """Envoy asks for everything and accepts it."""
        self.ask(CLUSTER)
        for kind in (ENDPOINTS, LISTENER, SECRET, ROUTE, EXTENSION):
            names = self.publisher.snapshot.of(kind)
            if kind is LISTENER:
                self.ack(CLUSTER)
                self.ask(LISTENER)
                self.ack(LISTENER)
            elif names:
                self.ask(kind, *names)
                self.ack(kind)
        assert self.publisher.outcome.generation == self.publisher.generation


def said(responses: list[DeltaResponse]) -> list[tuple[str, list[str], list[str]]]:
    return [
        (response.type.name, [item.name for item in response.resources], list(response.removed))
        for response in responses
    ]
