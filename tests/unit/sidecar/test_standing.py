from dataclasses import replace

from mesh.diagnostics import Position
from mesh.model.snapshot import Rejection, ResourceType
from mesh.ports import Acknowledged
from mesh.sidecar.reconciler import Compiled
from mesh.sidecar.standing import Standing

HERE, THERE = Position("web.yaml", 12), Position("api.yaml", 3)


def compiled(generation: int, revision: int, **other: object) -> Compiled:
    return Compiled(generation=generation, revision=revision, has_identity=True, **other)  # type: ignore[arg-type]


def acknowledged(generation: int, revision: int, *rejections: Rejection) -> Acknowledged:
    return Acknowledged(generation=generation, revision=revision, rejections=rejections)


def rejection(*sources: Position) -> Rejection:
    return Rejection(
        type=ResourceType.LISTENER, name="in", version="1", detail="bad\n", sources=sources
    )


def test_a_revision_counts_when_envoy_has_all_of_it() -> None:
    standing = Standing().after(compiled(1, 7), acknowledged(0, 0))
    assert (standing.revision, standing.seen, standing.is_serving) == (0, 7, False)
    standing = standing.after(compiled(1, 7), acknowledged(1, 7))
    assert (standing.revision, standing.is_serving) == (7, True)
    standing = standing.after(compiled(2, 8), acknowledged(1, 7))
    assert (standing.revision, standing.seen, standing.is_serving) == (7, 8, True)


def test_a_rejection_keeps_the_last_whole_revision_and_names_the_documents() -> None:
    standing = Standing().after(compiled(1, 7), acknowledged(1, 7))
    standing = standing.after(compiled(2, 8), acknowledged(2, 8, rejection(HERE, THERE)))
    assert (standing.revision, standing.seen) == (7, 8)
    (diagnostic,) = standing.rejections
    assert str(diagnostic).splitlines() == [
        'web.yaml:12:1: error[rejected-by-envoy]: envoy refuses listener "in": bad',
        "  api.yaml:3:1: also comes from here",
        "  hint: the last good configuration of it stays in force",
    ]
    standing = standing.after(compiled(3, 9), acknowledged(3, 9))
    assert (standing.revision, standing.rejections) == (9, ())


def test_a_port_that_is_taken_is_told_with_what_happens_next() -> None:
    taken = replace(rejection(HERE), detail="cannot bind '127.0.0.1:1': Address already in use")
    (diagnostic,) = Standing().after(compiled(1, 7), acknowledged(1, 7, taken)).rejections
    assert diagnostic.hint.startswith("it is tried again until the port is free")


def test_nothing_is_served_while_envoy_refuses_a_listener_of_the_sidecars_own() -> None:
    taken = replace(rejection(HERE), name="inbound")
    standing = Standing().after(compiled(1, 7), acknowledged(1, 7, taken))
    assert (standing.is_open, standing.is_serving) == (False, False)
    standing = standing.after(compiled(1, 7), acknowledged(2, 7))
    assert (standing.is_open, standing.is_serving) == (True, True)
    standing = standing.after(compiled(2, 8), acknowledged(3, 8, taken))
    assert standing.is_serving  # the last good one stays in force
    upstream = replace(rejection(HERE), name="upstream/default/db")
    assert Standing().after(compiled(1, 7), acknowledged(1, 7, upstream)).is_serving


def test_nothing_is_served_without_an_identity() -> None:
    without = Compiled(generation=1, revision=1, has_identity=False)
    assert not Standing().after(without, acknowledged(1, 1)).is_serving


def test_what_could_not_be_compiled_is_told_too() -> None:
    failed = compiled(1, 7, failure="a defect")
    (diagnostic,) = Standing().after(failed, acknowledged(1, 7)).rejections
    assert diagnostic.code == "not-compiled"
    assert diagnostic.message == "a defect"
    (unknown,) = Standing().after(compiled(1, 7), acknowledged(1, 7, rejection())).rejections
    assert unknown.position.file == "(generated)"
