"""Make before break: what must wait for what, what is held back, and what may leave."""

from collections.abc import Iterator, Mapping

from mesh.model.snapshot import Rejection, Resource, ResourceType
from mesh.xds.publisher import Publisher, Reference
from mesh.xds.subscription import Subscription

# What may name a cluster.
NAMING = (ResourceType.LISTENER, ResourceType.ROUTE, ResourceType.EXTENSION)

# Envoy asks for these by name when something that it was sent names them.
_ON_DEMAND = frozenset({ResourceType.ROUTE, ResourceType.EXTENSION})

_LABEL = {
    ResourceType.SECRET: "secret",
    ResourceType.CLUSTER: "cluster",
    ResourceType.ENDPOINTS: "endpoints",
    ResourceType.EXTENSION: "extension",
    ResourceType.LISTENER: "listener",
    ResourceType.ROUTE: "route configuration",
}


class Order:
    """Answers from what Envoy shall run and what it said on this stream of what it has."""

    def __init__(
        self, publisher: Publisher, subscriptions: Mapping[ResourceType, Subscription]
    ) -> None:
        self._publisher = publisher
        self._subscriptions = subscriptions

    def _has(self, reference: Reference) -> bool:
        subscription = self._subscriptions.get(reference[0])
        return subscription is not None and subscription.has(reference[1])

    def _target(self, reference: Reference) -> Resource | None:
        return self._publisher.snapshot.of(reference[0]).get(reference[1])

    def is_ready(self, resource: Resource) -> bool:
        """Whether Envoy has every cluster that `resource` names, also by what it brings along,
        and, if it has this route configuration, the listeners as they shall be.
        """
        for reference in resource.names:
            if self._has(reference):
                continue
            if reference[0] is ResourceType.CLUSTER:
                return False
            named = self._target(reference)
            if reference[0] in _ON_DEMAND and named is not None and not self.is_ready(named):
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

    def is_withheld(self, subscription: Subscription, resource: Resource) -> bool:
        """Whether not to send `resource`. A cluster in doubt is sent even if it lacks something:
        Envoy may run it, and only an answer makes it known (and removable) again.
        """
        if resource.type is ResourceType.CLUSTER and resource.name in subscription.doubtful:
            return self._publisher.refusal(resource) is not None
        return self.refusal(resource) is not None

    def refusal(self, resource: Resource) -> str | None:
        """Why Envoy will not run this version: it refused it, or lacks and refused what it
        names. None: nothing speaks against it.
        """
        if not self._publisher.has_refusals:
            return None
        detail = self._publisher.refusal(resource)
        if detail is not None:
            return detail
        for reference in resource.names:
            named = None if self._has(reference) else self._target(reference)
            detail = None if named is None else self.refusal(named)
            if detail is not None:
                label = _LABEL[reference[0]]
                return f'held back, for it needs {label} "{reference[1]}": {detail}'
        return None

    def named_beyond_snapshot(self) -> set[Reference] | None:
        """What is named by versions that Envoy runs and the snapshot lacks (kept for a refusal,
        or draining); None where that is not known.
        """
        named: set[Reference] = set()
        for kind in NAMING:
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

    def is_upserted(self) -> bool:
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
            self._accepted(named) or self.refusal(named) is not None
            for named in map(self._target, owner.names)
            if named is not None
        )

    def _accepted(self, resource: Resource) -> bool:
        subscription = self._subscriptions.get(resource.type)
        return (
            subscription is not None
            and subscription.accepted.get(resource.name) == resource.version
        )

    def rejections(self) -> tuple[Rejection, ...]:
        """What of the snapshot Envoy does not run, with its reasons."""
        if not self._publisher.has_refusals:
            return ()
        return tuple(
            Rejection(
                type=resource.type,
                name=resource.name,
                version=resource.version,
                detail=detail,
                sources=resource.sources,
            )
            for kind in ResourceType
            for _, resource in sorted(self._publisher.snapshot.of(kind).items())
            if (detail := self.refusal(resource)) is not None
        )
