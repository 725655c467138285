"""What is remembered between compilations changes their cost and nothing else."""

from dataclasses import replace
from functools import partial

from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.compiler.assemble import Assembler, compile_view
from mesh.compiler.memory import Memory
from mesh.compiler.scope import Reach
from mesh.model.catalog import Catalog, Health
from mesh.model.policy import Policy
from tests.support import sidecars
from tests.support.meshes import MESHES, POLICY, indexed
from tests.support.policies import name

AUTHORITY = sidecars.Authority()
IDENTITIES = st.sampled_from([None, AUTHORITY.svid(name("a")), AUTHORITY.svid(name("a"))])
ENDPOINTS = st.builds(
    lambda service, number, health: replace(
        sidecars.endpoint(service, 8000 + number, number), health=health
    ),
    st.sampled_from(["a", "b", "c", "ops/a"]),
    st.integers(1, 3),
    st.sampled_from(Health),
)
CATALOGS = st.lists(ENDPOINTS, max_size=4, unique_by=lambda each: each.id).map(
    lambda endpoints: sidecars.catalog(*endpoints)
)


def test_equal_content_is_made_once_and_forgotten_when_a_round_does_without() -> None:
    memory, made = Memory(), []

    def asked(content: int) -> int:
        def make() -> int:
            made.append(content)
            return content

        return memory.of("key", {"number": content}, make)

    assert (asked(1), made) == (1, [1])
    memory.turn()
    assert (asked(1), made) == (1, [1])
    memory.turn()
    assert (asked(2), made) == (2, [1, 2])
    memory.turn()
    memory.turn()
    assert (asked(2), made) == (2, [1, 2, 2])


def test_an_equal_result_is_the_one_before() -> None:
    memory = Memory()
    before = memory.of("key", 1, lambda: [1, 2])
    memory.turn()
    assert memory.of("key", 2, lambda: [1, 2]) is before
    memory.turn()
    assert memory.of("key", 3, lambda: [1, 3]) == [1, 3]


def test_parts_stay_while_the_whole_does_and_with_it_where_they_did_not_change() -> None:
    memory, made = Memory(), []

    def part(number: int) -> int:
        made.append(number)
        return number

    def whole(*numbers: int) -> list[int]:
        memory.turn()
        return memory.of_parts(
            "whole", numbers, lambda parts: [parts.of(n, n, partial(part, n)) for n in numbers]
        )

    assert (whole(1, 2), made) == ([1, 2], [1, 2])
    assert (whole(1, 2), made) == ([1, 2], [1, 2])
    assert (whole(1, 3), made) == ([1, 3], [1, 2, 3])
    assert (whole(1, 2), made) == ([1, 2], [1, 2, 3, 2])


@settings(max_examples=100, deadline=None)
@given(
    MESHES,
    st.lists(st.tuples(st.lists(POLICY, max_size=2), CATALOGS, IDENTITIES), min_size=1, max_size=5),
)
def test_a_change_of_anything_compiles_as_if_it_were_the_first(
    items: list[Policy],
    changes: list[tuple[list[Policy], Catalog, sidecars.SVID | None]],
) -> None:
    assembler = Assembler()
    held = {item.key: item for item in items}
    for revision, (changed, instances, svid) in enumerate(changes, start=1):
        # A document that comes again leaves, so that things vanish too.
        for item in changed:
            if held.get(item.key) == item:
                del held[item.key]
            else:
                held[item.key] = item
        view = Reach(indexed(list(held.values())), name("a"), instances.names).view(
            revision=revision,
            catalog=instances,
            placement=sidecars.placement("a", app=8080),
            svid=svid,
            bundle=AUTHORITY.bundle if svid else None,
        )
        assert assembler.compile(view) == compile_view(view)
        later = replace(view, revision=revision + 100)
        assert assembler.compile(later) == compile_view(later)
