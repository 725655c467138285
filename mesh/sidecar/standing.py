"""How far this sidecar is: from what was compiled and what Envoy acknowledged."""

from collections.abc import Iterable
from dataclasses import dataclass

from mesh.diagnostics import Diagnostic, Position, Severity
from mesh.model.snapshot import Rejection, ResourceType
from mesh.ports import Acknowledged
from mesh.sidecar.reconciler import Compiled

REJECTED = "rejected-by-envoy"
NOT_COMPILED = "not-compiled"
_KEPT = "the last good configuration of it stays in force"
_TRIED_AGAIN = "it is tried again until the port is free; `ss -ltnp` shows who listens"
_UNKNOWN = Position("(generated)")
# The listeners without which nobody reaches the mesh, or the application; not those of upstreams.
_DOORS = frozenset({"inbound", "outbound"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """`revision` runs in full, `seen` was compiled; `generation` is in force but for what
    `rejections` names. `is_open`: Envoy refused none of the sidecar's own listeners; `is_serving`:
    they were in force once, with an identity.
    """

    revision: int = 0
    seen: int = 0
    generation: int = 0
    is_open: bool = True
    is_serving: bool = False
    rejections: tuple[Diagnostic, ...] = ()

    def after(self, compiled: Compiled, acknowledged: Acknowledged) -> "Standing":
        """The standing that follows from news of either side."""
        is_whole = acknowledged.generation > 0 and not acknowledged.rejections
        in_force = acknowledged.generation >= compiled.generation > 0
        is_open = not any(_is_door(each) for each in acknowledged.rejections)
        return Standing(
            revision=acknowledged.revision if is_whole else self.revision,
            seen=compiled.revision,
            generation=acknowledged.generation,
            is_open=is_open,
            is_serving=self.is_serving or (in_force and is_open and compiled.has_identity),
            rejections=(*_diagnostics(acknowledged.rejections), *_failure(compiled)),
        )


def _is_door(rejection: Rejection) -> bool:
    return rejection.type is ResourceType.LISTENER and rejection.name in _DOORS


def _diagnostics(rejections: Iterable[Rejection]) -> tuple[Diagnostic, ...]:
    """A rejection at the place of the first document it came from, the others beside it."""
    return tuple(
        sorted(
            Diagnostic(
                position=rejection.sources[0] if rejection.sources else _UNKNOWN,
                severity=Severity.ERROR,
                code=REJECTED,
                message=_words(rejection),
                hint=_TRIED_AGAIN if rejection.is_passing else _KEPT,
                related=tuple((place, "also comes from here") for place in rejection.sources[1:]),
            )
            for rejection in rejections
        )
    )


def _failure(compiled: Compiled) -> tuple[Diagnostic, ...]:
    if compiled.failure is None:
        return ()
    hint = "the last good configuration stays in force; this is a defect of mesh, please report it"
    return (Diagnostic(_UNKNOWN, Severity.ERROR, NOT_COMPILED, compiled.failure, hint),)


def _words(rejection: Rejection) -> str:
    kind, detail = rejection.type.name.lower(), rejection.detail.strip()
    return f'envoy refuses {kind} "{rejection.name}": {detail}'
