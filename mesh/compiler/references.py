"""Whether generated resources fit together: what Envoy would accept and then do without.

Read off the JSON itself, so that a generator that forgets to say what it names is caught too.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from mesh.compiler.generated import JSON, Generated
from mesh.compiler.memory import Memory
from mesh.errors import MeshError
from mesh.model.snapshot import ResourceType

Reference = tuple[ResourceType, str]

ABSENT_CLUSTER: Final = "no-backend"
"""The cluster of a backend that vanished. It exists nowhere: Envoy answers its share with 500."""


@dataclass(frozen=True, slots=True)
class _Mentions:
    """What the JSON of one resource says of others: what it needs; for a listener, the HTTP
    filters before each route configuration; for a route configuration, those that it configures.
    """

    needed: frozenset[Reference]
    filters: tuple[tuple[str, frozenset[str]], ...] = ()
    configured: frozenset[str] = frozenset()


def check(
    generated: Iterable[Generated],
    awaited: frozenset[Reference] = frozenset(),
    memory: Memory | None = None,
) -> None:
    """Refuse a set in which something is named that is neither there nor `awaited`.

    `memory` saves reading what was read before.

    Raises:
        MeshError: a reference dangles, is not declared in `names`, or a route configures a filter
            that its listener does not have (Envoy accepts that and ignores it).
    """
    memory = memory or Memory()
    resources = [
        (each, memory.of_parts((check, each.type, each.name), each, partial(_mentions, each)))
        for each in generated
    ]
    there = awaited.union((each.type, each.name) for each, _ in resources)
    filters = _filters(found for _, found in resources)
    for each, found in resources:
        declared = frozenset(each.names)
        if missing := (found.needed | declared) - there:
            raise MeshError(f"{_title(each)} names {_titles(missing)}, which does not exist")
        if undeclared := found.needed - declared:
            raise MeshError(f"{_title(each)} does not declare {_titles(undeclared)}")
        if each.name in filters and (unknown := found.configured - filters[each.name]):
            raise MeshError(f"{_title(each)} configures {sorted(unknown)}, no filters there")


def _mentions(generated: Generated, memory: Memory) -> _Mentions:
    """Read part by part: a route configuration grows with the scope, and changes host by host."""
    if generated.type is not ResourceType.ROUTE:
        return _Mentions(
            frozenset(_needed(generated)),
            filters=tuple(_in_front(generated.json)),
        )
    parts = [*generated.json.get("virtual_hosts", ())]
    found = [memory.of(index, part, partial(_read, part)) for index, part in enumerate(parts)]
    found.append(_read({**generated.json, "virtual_hosts": []}))
    return _Mentions(
        needed=frozenset[Reference]().union(*(each.needed for each in found)),
        configured=frozenset[str]().union(*(each.configured for each in found)),
    )


def _read(part: JSON) -> _Mentions:
    """A part of a route configuration."""
    needed = frozenset(each for inside in _objects(part) for each in _names(inside))
    return _Mentions(needed, configured=frozenset(_configured(part)))


def _needed(generated: Generated) -> Iterator[Reference]:
    """What a resource names, whether it says so or not."""
    if generated.type is ResourceType.CLUSTER and "eds_cluster_config" in generated.json:
        config = generated.json["eds_cluster_config"]
        yield ResourceType.ENDPOINTS, config.get("service_name", generated.name)
    if generated.type in (ResourceType.SECRET, ResourceType.ENDPOINTS):
        return
    for each in _objects(generated.json):
        yield from _names(each)


def _names(part: dict[str, Any]) -> Iterator[Reference]:
    """What one JSON object names by itself."""
    if "sds_config" in part:
        yield ResourceType.SECRET, part["name"]
    if "config_discovery" in part:
        yield ResourceType.EXTENSION, part["name"]
    if "route_config_name" in part:
        yield ResourceType.ROUTE, part["route_config_name"]
    if isinstance(part.get("cluster"), str):
        yield ResourceType.CLUSTER, part["cluster"]
    for share in part.get("weighted_clusters", {}).get("clusters", ()):
        if share["name"] != ABSENT_CLUSTER:
            yield ResourceType.CLUSTER, share["name"]


def _filters(mentions: Iterable[_Mentions]) -> dict[str, frozenset[str]]:
    """The names of the HTTP filters that are before a route configuration wherever it is used."""
    found: dict[str, frozenset[str]] = {}
    for routes, names in (each for one in mentions for each in one.filters):
        found[routes] = found.get(routes, names) & names
    return found


def _in_front(json: JSON) -> Iterator[tuple[str, frozenset[str]]]:
    for part in _objects(json):
        if "http_filters" in part and "rds" in part:
            names = frozenset(item["name"] for item in part["http_filters"])
            yield part["rds"]["route_config_name"], names


def _configured(json: JSON) -> Iterator[str]:
    for part in _objects(json):
        yield from part.get("typed_per_filter_config", ())


def _objects(value: object) -> Iterator[dict[str, Any]]:
    """Every JSON object inside. Without recursion: this reads all that is ever generated."""
    waiting = [value]
    while waiting:
        found = waiting.pop()
        if isinstance(found, dict):
            yield found
            waiting.extend(found.values())
        elif isinstance(found, list | tuple):
            waiting.extend(found)


def _title(generated: Generated) -> str:
    return f'generated {generated.type.name.lower()} "{generated.name}"'


def _titles(references: Iterable[Reference]) -> str:
    return ", ".join(f'{kind.name.lower()} "{name}"' for kind, name in sorted(references))
