"""Whether a change leaves documents behind that refer to what it takes away.

The linker judges the documents that are being applied; those of other sources, and those that a
rollback brings back, are judged here, by the manifest alone.
"""

from collections.abc import Iterator

from mesh.diagnostics import Diagnostic, Severity
from mesh.model.policy import Kind, PolicyKey, Target
from mesh.model.revision import Manifest, ManifestEntry


def newly_dangling(before: Manifest, after: Manifest) -> list[Diagnostic]:
    """An error for each document of `after` that refers to a Service or ExternalService which is
    not in `after`, unless the same was so in `before`.
    """
    gone = before.keys() - after.keys()
    found: list[Diagnostic] = []
    for key in sorted(after):
        entry = after[key]
        if not gone and before.get(key) == entry:
            continue
        for target in _references(entry):
            if not _is_defined(target, after) and not _was_dangling(entry, target, before):
                found.append(_diagnostic(entry, target, before))
    return found


def _references(entry: ManifestEntry) -> Iterator[Target]:
    for target in dict.fromkeys((*entry.targets, *entry.uses)):
        if target.kind in (Kind.SERVICE, Kind.EXTERNAL_SERVICE):
            yield target


def _is_defined(target: Target, manifest: Manifest) -> bool:
    # A dependency does not say whether it is a Service or an ExternalService.
    kinds = (Kind.SERVICE, Kind.EXTERNAL_SERVICE)
    return any(PolicyKey(kind, target.namespace, target.name) in manifest for kind in kinds)


def _was_dangling(entry: ManifestEntry, target: Target, before: Manifest) -> bool:
    old = before.get(entry.key)
    return old is not None and target in _references(old) and not _is_defined(target, before)


def _diagnostic(entry: ManifestEntry, target: Target, before: Manifest) -> Diagnostic:
    name = f'{target.kind} "{target.namespace}/{target.name}"'
    gone = before.get(PolicyKey(target.kind, target.namespace, target.name))
    return Diagnostic(
        position=entry.position,
        severity=Severity.ERROR,
        code="still-referenced",
        message=f'{entry.key} of source "{entry.source}" needs {name}, which would be gone',
        hint=f"change {entry.key} first, or keep {name}",
        related=((gone.position, "deleted from here"),) if gone else (),
    )
