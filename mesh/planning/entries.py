"""A manifest's entry as JSON, without the kind and namespace that its chunk says for all."""

from collections.abc import Mapping
from typing import Any

from mesh.model.policy import Kind, PolicyKey, Target
from mesh.model.revision import ManifestEntry


def write_entry(entry: ManifestEntry) -> dict[str, object]:
    """The entry as JSON; empty references are left out."""
    value: dict[str, object] = {
        "name": entry.key.name,
        "digest": entry.digest,
        "source": entry.source,
        "file": entry.file,
        "line": entry.line,
        "introduced": entry.introduced,
    }
    for field, targets in (
        ("targets", entry.targets),
        ("uses", entry.uses),
        ("admits", entry.admits),
    ):
        if targets:
            value[field] = [f"{target.kind}/{target.namespace}/{target.name}" for target in targets]
    return value


def read_entry(namespace: str, kind: str, value: Mapping[str, Any]) -> ManifestEntry:
    """The entry from JSON; KeyError, TypeError or ValueError if it is none."""
    return ManifestEntry(
        key=PolicyKey(kind, namespace, value["name"]),
        digest=value["digest"],
        source=value["source"],
        file=value["file"],
        line=int(value["line"]),
        introduced=int(value["introduced"]),
        targets=_read_targets(value.get("targets")),
        uses=_read_targets(value.get("uses")),
        admits=_read_targets(value.get("admits")),
    )


def _read_targets(value: list[str] | None) -> tuple[Target, ...]:
    if not value:
        return ()
    found = []
    for text in value:
        kind, namespace, name = text.split("/")
        found.append(Target(Kind(kind), namespace, name))
    return tuple(found)
