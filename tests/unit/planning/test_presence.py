from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.model.catalog import Catalog, Endpoint, Health
from mesh.model.identity import ServiceName
from mesh.planning.presence import (
    EMPTY_GRACE_SECONDS,
    SILENCE_SECONDS,
    Presence,
    Roster,
    observe,
)

API = ServiceName("default", "api")
WEB = ServiceName("default", "web")


def endpoint(id="a", service=API, health=Health.HEALTHY):
    return Endpoint(id=id, service=service, address="192.0.2.1", port=1, health=health)


A, B = endpoint("a"), endpoint("b")
SILENT_A = replace(A, health=Health.DEGRADED)


def full(now=0.0):
    return observe(Presence(), [A, B], is_orderly=True, now=now)


# --- silence --------------------------------------------------------------------------------


def test_a_silent_instance_is_kept_for_ten_minutes():
    first = observe(full(), [SILENT_A, B], silent=["a"], is_orderly=True, now=100)
    later = 100 + SILENCE_SECONDS - 1
    kept = observe(first, [SILENT_A, B], silent=["a"], is_orderly=True, now=later)
    assert kept.endpoints == (SILENT_A, B)
    assert kept.forgotten == ()
    gone = observe(kept, [SILENT_A, B], silent=["a"], is_orderly=True, now=later + 1)
    assert gone.endpoints == (B,)
    assert gone.forgotten == (SILENT_A,)
    assert SILENCE_SECONDS == 600


def test_the_count_starts_anew_for_an_instance_that_spoke():
    first = observe(full(), [SILENT_A], silent=["a"], is_orderly=True, now=0)
    spoke = observe(first, [A], is_orderly=True, now=500)
    assert not spoke.changes_with_time
    again = observe(spoke, [SILENT_A], silent=["a"], is_orderly=True, now=599)
    assert observe(again, [SILENT_A], silent=["a"], is_orderly=True, now=700).endpoints


def test_silence_of_the_unhealthy_counts_as_well():
    sick = replace(A, health=Health.UNHEALTHY)
    first = observe(full(), [sick], silent=["a"], is_orderly=True, now=0)
    gone = observe(first, [sick], silent=["a"], is_orderly=True, now=SILENCE_SECONDS)
    assert gone.forgotten == (sick,)


def test_a_service_whose_last_instance_was_forgotten_is_empty_at_once():
    first = observe(Presence(), [SILENT_A], silent=["a"], is_orderly=True, now=0)
    gone = observe(first, [SILENT_A], silent=["a"], is_orderly=True, now=SILENCE_SECONDS)
    assert gone.endpoints == ()
    assert not gone.is_held


# --- emptiness ------------------------------------------------------------------------------


def test_an_orderly_empty_answer_is_believed():
    assert observe(full(), [], is_orderly=True, now=1) == Presence()


def test_a_disorderly_empty_answer_is_held_for_the_grace():
    held = observe(full(), [], is_orderly=False, now=10)
    assert held.endpoints == (A, B)
    assert held.is_held
    assert held.changes_with_time
    # The same answer, looked at later, stays what it was when it came.
    still = observe(held, [], is_orderly=True, now=10 + EMPTY_GRACE_SECONDS - 1)
    assert still.endpoints == (A, B)
    over = observe(still, [], is_orderly=True, now=10 + EMPTY_GRACE_SECONDS)
    assert over == Presence()


def test_an_instance_that_comes_back_ends_the_holding():
    held = observe(full(), [], is_orderly=False, now=10)
    back = observe(held, [B], is_orderly=False, now=20)
    assert back.endpoints == (B,)
    assert not back.is_held


def test_what_was_empty_stays_empty():
    assert observe(Presence(), [], is_orderly=False, now=1) == Presence()


@given(
    st.lists(
        st.tuples(
            st.sets(st.sampled_from("abc")),
            st.sets(st.sampled_from("abc")),
            st.booleans(),
            st.floats(min_value=0, max_value=1000),
        )
    )
)
def test_what_is_used_was_found_lately_or_is_held(answers):
    presence, now, found = Presence(), 0.0, set()
    for ids, silent, is_orderly, passed in answers:
        now += passed
        before, found = presence, ids
        presence = observe(
            before,
            [endpoint(id) for id in ids],
            silent=silent & ids,
            is_orderly=is_orderly,
            now=now,
        )
        used = [one.id for one in presence.endpoints]
        assert used == sorted(used)
        if presence.is_held:
            assert not found
            assert presence.endpoints == before.endpoints
        else:
            assert set(used) | {one.id for one in presence.forgotten} == found
            assert found - silent <= set(used)


# --- the roster of a watch --------------------------------------------------------------------


@pytest.fixture
def roster():
    made = Roster([WEB, API])
    made.receive(API, [A], silent=[], is_orderly=True, now=0)
    return made


def test_a_catalog_has_every_service_asked_for(roster):
    assert roster.catalog() == Catalog({API: (A,), WEB: ()})
    assert roster.catalog([WEB]).names == frozenset({WEB})


def test_what_is_lost_is_stale_and_stays(roster):
    roster.lose("q1", "no route to host")
    assert roster.catalog() == Catalog({API: (A,), WEB: ()}, stale="no route to host")
    assert roster.is_lost("q1")
    roster.heal("q1")
    assert roster.catalog().stale is None


def test_what_is_held_says_so(roster):
    roster.receive(API, [], silent=[], is_orderly=False, now=10)
    assert roster.catalog().endpoints[API] == (A,)
    assert "default/api" in roster.catalog().stale
    assert roster.changes_with_time
    roster.age(10 + EMPTY_GRACE_SECONDS)
    assert roster.catalog() == Catalog({API: (), WEB: ()})


def test_the_forgotten_are_named_once_their_time_is_over(roster):
    roster.receive(API, [SILENT_A], silent=["a"], is_orderly=True, now=0)
    assert roster.age(SILENCE_SECONDS - 1) == ()
    assert roster.age(SILENCE_SECONDS) == (SILENT_A,)
    assert roster.catalog().endpoints[API] == ()


def test_nobody_is_forgotten_while_the_source_is_lost(roster):
    roster.receive(API, [SILENT_A], silent=["a"], is_orderly=True, now=0)
    roster.lose("q1", "gone")
    assert roster.age(10 * SILENCE_SECONDS) == ()
    assert roster.catalog().endpoints[API] == (SILENT_A,)
