"""Looking at documents: as they are stored, and with all that bears on them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches

from mesh.documents.schema import API_VERSIONS
from mesh.errors import NotFound, UsageError
from mesh.model.identity import ServiceName
from mesh.model.policy import Kind, PolicyKey, Target
from mesh.model.revision import Manifest, ManifestEntry
from mesh.operations.sidecars import Member, read_members
from mesh.operations.state import State, read_objects, read_revision, read_state
from mesh.planning.scope import Scopes
from mesh.ports import Store

_NAMING = (
    ("view", "Service"),
    ("route", "HTTPRoute"),
    ("traffic", "TrafficPolicy"),
    ("access", "AccessPolicy"),
)


@dataclass(frozen=True, slots=True)
class Relation:
    """A document that bears on another one, and how."""

    how: str
    entry: ManifestEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """A document, what bears on it, and for a service who may call it and whom it may call.

    `entry` is None for a service that has sidecars or may call others, and no document. `members`
    are the sidecars that the document concerns; for a service, its own.
    """

    key: PolicyKey
    entry: ManifestEntry | None
    canonical: bytes | None
    relations: tuple[Relation, ...] = ()
    callers: tuple[Target, ...] = ()
    may_call: tuple[Target, ...] = ()
    members: tuple[Member, ...] = ()
    head: int = 0


def kind_of(text: str) -> str:
    """The kind that a person means: any case, singular or plural.

    Raises:
        UsageError: there is none of that name.
    """
    kinds = {kind.lower(): kind for kind in API_VERSIONS}
    word = text.lower()
    for candidate in (word, word.removesuffix("s"), word.removesuffix("ies") + "y"):
        if candidate in kinds:
            return kinds[candidate]
    near = get_close_matches(word, kinds, n=1)
    hint = f'did you mean "{kinds[near[0]]}"?' if near else f"kinds: {', '.join(API_VERSIONS)}"
    raise UsageError(f'there is no kind "{text}"', hint)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which documents are meant; None is any."""

    kind: str | None = None
    name: str | None = None
    namespace: str | None = None

    def entries(self, manifest: Manifest) -> Iterator[ManifestEntry]:
        """The documents of `manifest` that are meant, by key."""
        for key in sorted(manifest):
            if (
                self.kind in (None, key.kind)
                and self.name in (None, key.name)
                and self.namespace in (None, key.namespace)
            ):
                yield manifest[key]


async def documents(
    store: Store, selection: Selection, revision: int | None = None
) -> tuple[bytes, ...]:
    """Canonical documents of head, or of an older revision.

    Raises:
        NotFound: a document is named that is not there, or the revision is not kept.
    """
    state = await read_state(store)
    manifest = state.manifest
    if revision is not None:
        manifest = (await read_revision(store, revision, state))[1]
    entries = list(selection.entries(manifest))
    if selection.name is not None and not entries:
        raise _unknown(selection, manifest)
    objects = await read_objects(store, {entry.digest for entry in entries})
    return tuple(objects[entry.digest] for entry in entries)


async def describe(store: Store, key: PolicyKey) -> Description:
    """A document with all that bears on it.

    Raises:
        NotFound: there is no such document, nor a sidecar of such a service, nor a rule that
            lets it call somebody.
    """
    state = await read_state(store)
    members = await read_members(store)
    entry = state.manifest.get(key)
    service = ServiceName(key.namespace, key.name)
    own = tuple(member for member in members if member.status.service == service)
    if entry is None and key.kind != Kind.SERVICE:
        named = Selection(kind=key.kind, name=key.name, namespace=key.namespace)
        raise _unknown(named, state.manifest)
    if entry is None and not own and not _is_caller(state, service):
        raise _stranger(service, state.manifest)
    canonical = None
    if entry is not None:
        canonical = (await read_objects(store, [entry.digest]))[entry.digest]
    scopes = Scopes(state.manifest)
    is_service = key.kind == Kind.SERVICE
    return Description(
        key=key,
        entry=entry,
        canonical=canonical,
        relations=tuple(_relations(scopes, state.manifest, key)),
        callers=_callers(scopes, state.manifest, key),
        may_call=tuple(sorted(scopes.callable_by(service))) if is_service else (),
        members=own if is_service else tuple(_touched(scopes, members, key)),
        head=state.number,
    )


def _is_caller(state: State, service: ServiceName) -> bool:
    """Whether a rule names it: a caller needs no document."""
    here = Target(Kind.SERVICE, service.namespace, service.name)
    return any(here in entry.admits for entry in state.manifest.values())


def _relations(scopes: Scopes, manifest: Manifest, key: PolicyKey) -> Iterator[Relation]:
    """First what the document names, then what names it."""
    entry = manifest.get(key)
    if entry is not None:
        yield from _named(manifest, "on", entry.targets)
        yield from _named(manifest, "uses", entry.uses)
    if key.kind not in (Kind.SERVICE, Kind.EXTERNAL_SERVICE):
        return
    here = Target(Kind(key.kind), key.namespace, key.name)
    for how, kind in _NAMING:
        yield from (Relation(how, item) for item in scopes.on(kind, here))
    for base in _bases(manifest, key):  # what it leaves open is as for the service of the view
        yield from (Relation("traffic", item) for item in scopes.on("TrafficPolicy", base))
    yield from (Relation("used by", item) for item in manifest.values() if here in item.uses)


def _bases(manifest: Manifest, key: PolicyKey) -> tuple[Target, ...]:
    """The service that a Service is a view of, if it is one."""
    entry = manifest.get(key)
    return entry.targets if entry is not None and key.kind == Kind.SERVICE else ()


def _named(manifest: Manifest, how: str, targets: Iterable[Target]) -> Iterator[Relation]:
    for target in targets:
        # A dependency does not say whether it is a Service or an ExternalService.
        for kind in (target.kind, Kind.EXTERNAL_SERVICE):
            entry = manifest.get(PolicyKey(kind, target.namespace, target.name))
            if entry is not None:
                yield Relation(how, entry)
                break


def _callers(scopes: Scopes, manifest: Manifest, key: PolicyKey) -> tuple[Target, ...]:
    """Who may see a service: services, namespaces, or the whole mesh. What admits to a service
    admits to its views.
    """
    if key.kind not in (Kind.SERVICE, Kind.EXTERNAL_SERVICE):
        return ()
    here = Target(Kind(key.kind), key.namespace, key.name)
    protected = _bases(manifest, key) or (here,)
    entries = [item for each in protected for item in scopes.on("AccessPolicy", each)]
    entries += scopes.on("Mesh", here)
    return tuple(sorted({target for entry in entries for target in entry.admits}))


def _touched(scopes: Scopes, members: Iterable[Member], key: PolicyKey) -> Iterator[Member]:
    for member in members:
        if key in scopes.closure(member.status.service):
            yield member


def _unknown(selection: Selection, manifest: Manifest) -> NotFound:
    what = f'{selection.kind or "document"} "{selection.name}"'
    where = f' in namespace "{selection.namespace}"' if selection.namespace else ""
    same = {entry.key.name: entry.key for entry in Selection(kind=selection.kind).entries(manifest)}
    near = get_close_matches(selection.name or "", same, n=3, cutoff=0.5)
    hint = "there is " + ", ".join(str(same[name]) for name in near) if near else ""
    return NotFound(f"there is no {what}{where}", hint or "`mesh get` lists every document")


def _stranger(service: ServiceName, manifest: Manifest) -> NotFound:
    """Nothing knows it: a typo, or a caller that nobody admits."""
    known = {entry.key.name for entry in manifest.values() if entry.key.kind == Kind.SERVICE}
    known |= {target.name for entry in manifest.values() for target in entry.admits}
    near = get_close_matches(service.name, known, n=1)
    hint = (
        f'did you mean "{near[0]}"?'
        if near
        else ("so it may call nothing; let it in by an AccessPolicy of what it shall call (`from`)")
    )
    message = f'"{service}" has no document, no rule names it, and no sidecar runs as it'
    return NotFound(message, hint)
