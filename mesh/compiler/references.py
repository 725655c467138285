"""Whether generated resources fit together: what Envoy would accept and then do without.

Read off the JSON itself, so that a generator that forgets to say what it names is caught too.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from mesh.compiler.generated import JSON, Generated
from mesh.errors import MeshError
from mesh.model.snapshot import ResourceType

Reference = tuple[ResourceType, str]

ABSENT_CLUSTER: Final = "no-backend"
"""The cluster of a backend that vanished. It exists nowhere: Envoy answers its share with 500."""


def check(generated: Iterable[Generated], awaited: frozenset[Reference] = frozenset()) -> None:
    """Refuse a set in which something is named that is neither there nor `awaited`.

    Raises:
        MeshError: a reference dangles, is not declared in `names`, or a route configures a filter
            that its listener does not have (Envoy accepts that and ignores it).
    """
    resources = list(generated)
    there = {(each.type, each.name) for each in resources}
    filters = _filters(resources)
    for each in resources:
        needed = set(_needed(each))
        if missing := (needed | set(each.names)) - there - awaited:
            raise MeshError(f"{_title(each)} names {_titles(missing)}, which does not exist")
        if undeclared := needed - set(each.names):
            raise MeshError(f"{_title(each)} does not declare {_titles(undeclared)}")
        if each.type is ResourceType.ROUTE and each.name in filters:
            unknown = set(_configured(each.json)) - filters[each.name]
            if unknown:
                raise MeshError(f"{_title(each)} configures {sorted(unknown)}, no filters there")


def _needed(generated: Generated) -> Iterator[Reference]:
    """What a resource names, whether it says so or not."""
    if generated.type is ResourceType.CLUSTER and "eds_cluster_config" in generated.json:
        config = generated.json["eds_cluster_config"]
        yield ResourceType.ENDPOINTS, config.get("service_name", generated.name)
    if generated.type in (ResourceType.SECRET, ResourceType.ENDPOINTS):
        return
    for part in _objects(generated.json):
        yield from _names(part)


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


def _filters(resources: Iterable[Generated]) -> dict[str, set[str]]:
    """The names of the HTTP filters in front of each route configuration."""
    found: dict[str, set[str]] = {}
    for each in resources:
        if each.type is ResourceType.LISTENER:
            for part in _objects(each.json):
                if "http_filters" in part and "rds" in part:
                    names = {item["name"] for item in part["http_filters"]}
                    found.setdefault(part["rds"]["route_config_name"], names).intersection_update(
                        names
                    )
    return found


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
