"""Delta ADS without I/O: what to say next to one Envoy, make before break.

Rules that Envoy 1.40 forces, each measured (`docs/decisions`):

- Envoy withholds the ACK of clusters until they are warm, so their endpoints never wait for it;
  a changed cluster does not ask for its endpoints or secrets again, so both are sent once more.
- A route to an unknown cluster is accepted and answers 503: listeners and routes wait until
  Envoy has acknowledged the clusters they name; clusters leave when nothing names them.
- A refused response is applied in part: each of its resources is sent again alone, once. What
  is refused alone is never sent again, and what cannot work without it is held back.
"""

from collections.abc import Iterator

from mesh.model.snapshot import Rejection, Resource, ResourceType
from mesh.xds.messages import DeltaRequest, DeltaResponse
from mesh.xds.publisher import Publisher, Reference
from mesh.xds.subscription import Subscription

# Envoy asks for these by name when something that it was sent names them.
_ON_DEMAND = frozenset({ResourceType.ROUTE, ResourceType.EXTENSION})
# Resent after whatever names them, for a changed owner does not ask for them again.
_RESENT = frozenset({ResourceType.ENDPOINTS, ResourceType.SECRET})
# What may name a cluster.
_NAMING = (ResourceType.LISTENER, ResourceType.ROUTE, ResourceType.EXTENSION)
# Of these it matters what Envoy was sent, also when the snapshot has moved on.
_REMEMBERED = frozenset({*_NAMING, *_RESENT})

_LABEL = {
    ResourceType.SECRET: "secret",
    ResourceType.CLUSTER: "cluster",
    ResourceType.ENDPOINTS: "endpoints",
    ResourceType.EXTENSION: "extension",
    ResourceType.LISTENER: "listener",
    ResourceType.ROUTE: "route configuration",
}


class Session:
    """One stream of one Envoy. Feed it requests, call `advance` after each publish; both return
    the responses to send now, in order. At most one response per type is unanswered at a time.
    """

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._stream = publisher.open_stream()
        self._subscriptions: dict[ResourceType, Subscription] = {}
        self._generation = 0
        self._nonce = 0

    @property
    def is_superseded(self) -> bool:
        """Whether Envoy has opened a newer stream: this one has nothing to say any more."""
        return self._publisher.stream != self._stream

    def receive(self, request: DeltaRequest) -> list[DeltaResponse]:
        """Take over a request; the responses to send now."""
        if self.is_superseded:
            return []
        subscription = self._subscriptions.get(request.type)
        if subscription is None:
            self._open(request)
        else:
            if request.nonce:
                self._settle(subscription, request)
            subscription.change(request)
            for name in request.unsubscribe:
                if not subscription.wants(name):
                    self._publisher.keep_only((request.type, name), None)
        return self.advance()

    def advance(self) -> list[DeltaResponse]:
        """Catch up with the publisher; the responses to send now."""
        if self.is_superseded or not self._publisher.generation:
            return []
        if self._generation != self._publisher.generation:
            self._generation = self._publisher.generation
            self._retarget()
        responses: list[DeltaResponse] = []
        while batch := [response for response in self._round() if response is not None]:
            responses += batch
        if not any(subscription.in_flight for subscription in self._subscriptions.values()):
            self._conclude()
        return responses

    # --- what Envoy says ---------------------------------------------------------------------

    def _open(self, request: DeltaRequest) -> None:
        """The first request of a type tells what Envoy has: look at everything again."""
        if request.type is ResourceType.CLUSTER and not request.initial_versions:
            self._publisher.pardon()
        self._subscriptions[request.type] = Subscription(request)
        self._retarget()

    def _retarget(self) -> None:
        for kind, subscription in self._subscriptions.items():
            subscription.retarget(self._publisher.snapshot.of(kind))

    def _settle(self, subscription: Subscription, request: DeltaRequest) -> None:
        """An ACK or a NACK of the response in flight; others are of no interest."""
        response = subscription.in_flight
        if response is None or response.nonce != request.nonce:
            return
        if request.error is None:
            subscription.accept(response)
            if self._publisher.has_refusals:
                self._retarget()  # what was held back for want of it may go now
        elif guilty := subscription.refuse(response):
            self._publisher.refuse(guilty, request.error)
        if subscription.type in _REMEMBERED:
            settled = {resource.name for resource in response.resources} | set(response.removed)
            for name in settled - subscription.doubtful.keys():
                version = subscription.accepted.get(name)
                self._publisher.keep_only((subscription.type, name), version)

    # --- what to say -------------------------------------------------------------------------

    def _round(self) -> Iterator[DeltaResponse | None]:
        """One response for each type that has news and none in flight, in order of types."""
        for known in self._subscriptions.values():
            self._drop_settled(known)
        for kind in ResourceType:
            subscription = self._subscriptions.get(kind)
            if subscription is None or subscription.in_flight is not None:
                continue
            yield self._respond(subscription)

    def _respond(self, subscription: Subscription) -> DeltaResponse | None:
        upserts, removed, is_waiting = self._sort(subscription)
        doubtful = [resource for resource in upserts if resource.name in subscription.doubtful]
        if doubtful:
            # Removals go ahead: a listener may need the address of one that leaves.
            upserts = [] if removed else doubtful[:1]
        owed = subscription.is_answer_owed and not is_waiting
        if not upserts and not removed and not owed:
            return None
        self._nonce += 1
        response = DeltaResponse(
            type=subscription.type,
            resources=tuple(upserts),
            removed=tuple(removed),
            nonce=str(self._nonce),
        )
        subscription.sent(response)
        for resource in upserts:
            self._follow_up(resource)
        return response

    def _follow_up(self, resource: Resource) -> None:
        """Send again what a changed owner does not ask for, and keep what it names."""
        if resource.type in _REMEMBERED:
            self._publisher.remember(resource)
        if resource.type not in (ResourceType.CLUSTER, ResourceType.LISTENER):
            return
        for kind, name in resource.names:
            subscription = self._subscriptions.get(kind)
            if kind in _RESENT and subscription is not None and subscription.wants(name):
                subscription.ask(name)

    def _sort(self, subscription: Subscription) -> tuple[list[Resource], list[str], bool]:
        """The due names as resources to send now and names to remove now, and whether some must
        wait.
        """
        target = self._publisher.snapshot.of(subscription.type)
        upserts: list[Resource] = []
        removed: list[str] = []
        is_waiting = False
        leaving: list[str] = []
        for name in sorted(subscription.due):
            resource = target.get(name)
            if resource is None and subscription.wildcard and subscription.may_have(name):
                leaving.append(name)
            elif resource is None or self._is_withheld(subscription, resource):
                self._answer_without(subscription, name, upserts, removed)
            elif self._is_ready(resource):
                upserts.append(resource)
            else:
                is_waiting = True
        return upserts, removed + self._removals(subscription, leaving), is_waiting

    def _answer_without(
        self,
        subscription: Subscription,
        name: str,
        upserts: list[Resource],
        removed: list[str],
    ) -> None:
        """Answer for a name of which there is nothing to run. What Envoy has of it stays: its
        owner leaves in time, and then Envoy unsubscribes. A changed cluster that waits for its
        endpoints gets the last good ones (told that they are gone, it would serve 503; without
        an answer it takes its own copy of them after `initial_fetch_timeout`).
        """
        version = subscription.accepted.get(name)
        kept = self._publisher.sent((subscription.type, name), version or "")
        if name in subscription.asked and version is None:
            removed.append(name)
        elif name in subscription.asked and kept is not None:
            upserts.append(kept)
        else:
            subscription.drop(name)

    def _drop_settled(self, subscription: Subscription) -> None:
        """Forget the due names that need nothing: Envoy has them, refused them, or left them."""
        target = self._publisher.snapshot.of(subscription.type)
        for name in list(subscription.due):
            resource = target.get(name)
            if resource is None or name in subscription.asked:
                continue
            is_known = subscription.accepted.get(name) == resource.version
            if (
                not subscription.wants(name)
                or (is_known and name not in subscription.doubtful)
                or self._is_withheld(subscription, resource)
            ):
                subscription.drop(name)

    def _removals(self, subscription: Subscription, leaving: list[str]) -> list[str]:
        """Which of the names that the snapshot lacks Envoy shall drop now."""
        if not leaving or subscription.type is not ResourceType.CLUSTER:
            return leaving
        named = self._named_beyond_snapshot() if self._is_upserted() else None
        if named is None:
            return []
        return [name for name in leaving if (ResourceType.CLUSTER, name) not in named]

    # --- make before break -------------------------------------------------------------------

    def _has(self, reference: Reference) -> bool:
        subscription = self._subscriptions.get(reference[0])
        return subscription is not None and subscription.has(reference[1])

    def _target(self, reference: Reference) -> Resource | None:
        return self._publisher.snapshot.of(reference[0]).get(reference[1])

    def _is_ready(self, resource: Resource) -> bool:
        """Whether Envoy has every cluster that `resource` names, also by what it brings along,
        and, if it has this route configuration, the listeners as they shall be.
        """
        for reference in resource.names:
            if self._has(reference):
                continue
            if reference[0] is ResourceType.CLUSTER:
                return False
            named = self._target(reference)
            if reference[0] in _ON_DEMAND and named is not None and not self._is_ready(named):
                return False
        reference = (resource.type, resource.name)
        if resource.type is ResourceType.ROUTE and self._has(reference):
            return not any(
                reference in listener.names and self._is_pending(listener)
                for listener in self._publisher.snapshot.of(ResourceType.LISTENER).values()
            )
        return True

    def _is_pending(self, resource: Resource) -> bool:
        """Whether `resource` is yet to be sent or acknowledged."""
        subscription = self._subscriptions.get(resource.type)
        if subscription is None:
            return False
        flight = subscription.in_flight.resources if subscription.in_flight else ()
        return resource.name in subscription.due or any(
            sent.name == resource.name for sent in flight
        )

    def _is_withheld(self, subscription: Subscription, resource: Resource) -> bool:
        """Whether not to send `resource`. A cluster in doubt is sent even if it lacks something:
        Envoy may run it, and only an answer makes it known (and removable) again.
        """
        if resource.type is ResourceType.CLUSTER and resource.name in subscription.doubtful:
            return self._publisher.refusal(resource) is not None
        return self._refusal(resource) is not None

    def _refusal(self, resource: Resource) -> str | None:
        """Why Envoy will not run this version: it refused it, or lacks and refused what it
        names. None: nothing speaks against it.
        """
        detail = self._publisher.refusal(resource)
        if detail is not None:
            return detail
        for reference in resource.names:
            named = None if self._has(reference) else self._target(reference)
            detail = None if named is None else self._refusal(named)
            if detail is not None:
                label = _LABEL[reference[0]]
                return f'held back, for it needs {label} "{reference[1]}": {detail}'
        return None

    def _named_beyond_snapshot(self) -> set[Reference] | None:
        """What is named by versions that Envoy runs and the snapshot lacks (kept for a refusal,
        or draining); None where that is not known.
        """
        named: set[Reference] = set()
        for kind in _NAMING:
            subscription = self._subscriptions.get(kind)
            if subscription is None:
                continue
            if subscription.doubtful:
                return None
            for name, version in subscription.accepted.items():
                target = self._target((kind, name))
                if target is not None and target.version == version:
                    continue
                kept = self._publisher.sent((kind, name), version)
                if kept is None:
                    return None
                named.update(kept.names)
        if any(kind in _ON_DEMAND and not self._has((kind, name)) for kind, name in named):
            return None  # Envoy has not yet said on this stream what it has of them
        return named

    # --- how far Envoy is --------------------------------------------------------------------

    def _is_upserted(self) -> bool:
        """Whether Envoy has settled every resource of the snapshot that it uses."""
        if any(
            kind not in self._subscriptions
            for kind in (ResourceType.CLUSTER, ResourceType.LISTENER)
        ):
            return False
        return not any(
            subscription.in_flight is not None
            or subscription.is_answer_owed
            or self._has_upsert_due(subscription)
            for subscription in self._subscriptions.values()
        ) and all(self._is_settled(resource) for resource in self._owners())

    def _has_upsert_due(self, subscription: Subscription) -> bool:
        target = self._publisher.snapshot.of(subscription.type)
        return any(name in target for name in subscription.due)

    def _owners(self) -> Iterator[Resource]:
        for kind in (ResourceType.CLUSTER, ResourceType.LISTENER):
            yield from self._publisher.snapshot.of(kind).values()

    def _is_settled(self, owner: Resource) -> bool:
        """Whether all that an accepted `owner` names has been asked for and settled."""
        if self._subscriptions[owner.type].accepted.get(owner.name) != owner.version:
            return True  # refused or held back: nothing else is left unsent
        return all(
            self._accepted(named) or self._refusal(named) is not None
            for named in map(self._target, owner.names)
            if named is not None
        )

    def _accepted(self, resource: Resource) -> bool:
        subscription = self._subscriptions.get(resource.type)
        return (
            subscription is not None
            and subscription.accepted.get(resource.name) == resource.version
        )

    def _conclude(self) -> None:
        """Everything has been said and answered: the outcome, with what Envoy refused."""
        if not self._is_upserted():
            return
        rejections = [
            Rejection(
                type=resource.type,
                name=resource.name,
                version=resource.version,
                detail=detail,
                sources=resource.sources,
            )
            for kind in ResourceType
            for _, resource in sorted(self._publisher.snapshot.of(kind).items())
            if (detail := self._refusal(resource)) is not None
        ]
        self._publisher.conclude(rejections)
