"""What outlives a stream: the newest snapshot, what came of it, and what Envoy refused."""

from collections.abc import Iterable, Sequence

from mesh.model.snapshot import Rejection, Resource, ResourceType, Snapshot
from mesh.xds.messages import Outcome

Reference = tuple[ResourceType, str]

_REFUSALS_KEPT = 1024


class Publisher:
    """Shared by all sessions of one Envoy; only the newest session speaks for it."""

    def __init__(self) -> None:
        self._snapshot = Snapshot()
        self._generation = 0
        self._stream = 0
        self._outcome = Outcome()
        self._refusals: dict[tuple[ResourceType, str, str], str] = {}
        self._sent: dict[Reference, dict[str, Resource]] = {}

    @property
    def snapshot(self) -> Snapshot:
        """What Envoy shall run."""
        return self._snapshot

    @property
    def generation(self) -> int:
        """How often `publish` was called; 0: nothing to say to Envoy yet."""
        return self._generation

    @property
    def stream(self) -> int:
        """The number of the newest stream."""
        return self._stream

    @property
    def outcome(self) -> Outcome:
        """How far Envoy is."""
        return self._outcome

    def publish(self, snapshot: Snapshot) -> int:
        """Make `snapshot` what Envoy shall run; its generation. Sessions follow by `advance`."""
        self._snapshot = snapshot
        self._generation += 1
        return self._generation

    def offer_again(self, refused: Iterable[Rejection]) -> None:
        """Forget these refusals: what they are of is sent once more, as part of a generation of
        its own.
        """
        for each in refused:
            self._refusals.pop((each.type, each.name, each.version), None)
        self._generation += 1

    def open_stream(self) -> int:
        """Count a new stream; it supersedes the earlier ones."""
        self._stream += 1
        return self._stream

    def conclude(self, rejections: Sequence[Rejection]) -> None:
        """Envoy runs the newest generation, except for the rejections."""
        self._outcome = Outcome(
            generation=self._generation,
            revision=self._snapshot.revision,
            rejections=tuple(rejections),
        )

    def refuse(self, resource: Resource, detail: str) -> None:
        """Envoy refused `resource` when it was sent alone: it is never sent again."""
        self._refusals[(resource.type, resource.name, resource.version)] = detail
        if len(self._refusals) > _REFUSALS_KEPT:
            del self._refusals[next(iter(self._refusals))]

    def refusal(self, resource: Resource) -> str | None:
        """Envoy's words when it refused this version alone; None: it did not."""
        return self._refusals.get((resource.type, resource.name, resource.version))

    @property
    def has_refusals(self) -> bool:
        """Whether Envoy refused anything."""
        return bool(self._refusals)

    def pardon(self) -> None:
        """A fresh Envoy: what its predecessor refused gets another try, for a refusal may have
        been of its time (a listener's port that was taken).
        """
        self._refusals.clear()
        self._sent.clear()

    def remember(self, resource: Resource) -> None:
        """Keep what is sent: Envoy may go on running it when newer versions are refused."""
        versions = self._sent.setdefault((resource.type, resource.name), {})
        versions[resource.version] = resource

    def keep_only(self, reference: Reference, version: str | None) -> None:
        """Forget the versions of a resource, except for the one in force (None: none is)."""
        versions = self._sent.pop(reference, {})
        if version is not None and version in versions:
            self._sent[reference] = {version: versions[version]}

    def sent(self, reference: Reference, version: str) -> Resource | None:
        """A version that Envoy runs; None where an earlier agent sent it."""
        return self._sent.get(reference, {}).get(version)
