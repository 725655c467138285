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

from mesh.model.snapshot import Resource, ResourceType
from mesh.xds.messages import DeltaRequest, DeltaResponse
from mesh.xds.order import NAMING, Order
from mesh.xds.publisher import Publisher
from mesh.xds.subscription import Subscription

# Sent again after whatever names them, for a changed owner does not ask for them.
_RESENT = frozenset({ResourceType.ENDPOINTS, ResourceType.SECRET})
# Of these it matters what Envoy was sent, also when the snapshot has moved on.
_REMEMBERED = frozenset({*NAMING, *_RESENT})


class Session:
    """One stream of one Envoy. Feed it requests, call `advance` after each publish; both return
    the responses to send now, in order. At most one response per type is unanswered at a time.
    """

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._stream = publisher.open_stream()
        self._subscriptions: dict[ResourceType, Subscription] = {}
        self._order = Order(publisher, self._subscriptions)
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
        if self._order.is_upserted():
            self._publisher.conclude(self._order.rejections())
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
            elif resource is None or self._order.is_withheld(subscription, resource):
                self._answer_without(subscription, name, upserts, removed)
            elif self._order.is_ready(resource):
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
                or self._order.is_withheld(subscription, resource)
            ):
                subscription.drop(name)

    def _removals(self, subscription: Subscription, leaving: list[str]) -> list[str]:
        """Which of the names that the snapshot lacks Envoy shall drop now."""
        if not leaving or subscription.type is not ResourceType.CLUSTER:
            return leaving
        named = self._order.named_beyond_snapshot() if self._order.is_upserted() else None
        if named is None:
            return []
        return [name for name in leaving if (ResourceType.CLUSTER, name) not in named]
