from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.ca import rotation
from mesh.ca.chain import read_certificates, verify
from mesh.ca.issuance import (
    BACKDATE,
    INTERMEDIATE_LIFETIME,
    MAX_LEAF_LIFETIME,
    ROOT_LIFETIME,
    issue_leaf,
)
from mesh.ca.request import certificate_request
from mesh.ca.rotation import SETTLE, SKEW, State, Step, due, next_renewal, take
from mesh.errors import CertificateRefused, InputError
from mesh.model.identity import TrustBundle
from tests.support.certificates import NOW, TRUST_DOMAIN, WEB, Peers, material, p256_key

DAY = timedelta(hours=24)
JITTER = st.floats(min_value=0, max_value=1, exclude_max=True)
CSR = certificate_request(WEB, p256_key())
STATE = rotation.record_leaf(Peers.made().mesh, DAY)
# Keys are expensive and what they are does not matter: every example uses the same few.
MATERIAL = material()


def leaf_of(state, now, lifetime=DAY):
    leaf = issue_leaf(WEB, CSR, state.intermediate, serial=1, now=now, lifetime=lifetime)
    return (leaf, state.intermediate.certificate)


def roots_of(bundle):
    return read_certificates(bundle.roots_pem)


# --- leaves ---------------------------------------------------------------------------------


@given(seconds=st.integers(min_value=1, max_value=90 * 86_400), jitter=JITTER)
def test_a_leaf_is_renewed_at_half_to_two_thirds_of_its_life(seconds, jitter):
    lifetime = timedelta(seconds=seconds)
    moment = next_renewal(NOW - BACKDATE, NOW + lifetime, jitter)
    assert NOW + lifetime * 0.5 <= moment <= NOW + lifetime * 0.66


def test_jitter_spreads_renewals():
    early, late = (next_renewal(NOW, NOW + DAY, jitter) for jitter in (0.0, 0.999))
    assert late - early > DAY * 0.15


def test_a_leaf_that_is_over_is_renewed_at_once():
    assert next_renewal(NOW - DAY, NOW - DAY / 2, 0.5) < NOW
    assert next_renewal(NOW, NOW, 0.5) == NOW


# --- steps ----------------------------------------------------------------------------------


def test_nothing_is_due_at_first():
    assert due(STATE, NOW) is None


def test_an_intermediate_is_renewed_at_half_of_its_life():
    half = NOW + INTERMEDIATE_LIFETIME / 2
    assert due(STATE, half - timedelta(days=1)) is None
    assert due(STATE, half + timedelta(days=1)) is Step.RENEW_INTERMEDIATE


def test_a_renewed_intermediate_changes_no_bundle():
    renewed = take(STATE, Step.RENEW_INTERMEDIATE, material(), NOW)
    assert renewed.intermediate != STATE.intermediate
    assert rotation.bundle(renewed) == rotation.bundle(STATE)
    verify(WEB, leaf_of(renewed, NOW), rotation.bundle(STATE), NOW)


def test_a_prepared_root_is_trusted_and_signs_nothing():
    prepared = take(STATE, Step.PREPARE_ROOT, material(), NOW)
    assert len(roots_of(rotation.bundle(prepared))) == 2
    assert prepared.intermediate == STATE.intermediate
    assert due(prepared, NOW + SETTLE - timedelta(seconds=1)) is None
    assert due(prepared, NOW + SETTLE) is Step.ACTIVATE_ROOT


def test_an_activated_root_signs_while_the_old_one_is_still_trusted():
    prepared = take(STATE, Step.PREPARE_ROOT, material(), NOW)
    later = NOW + SETTLE
    activated = take(prepared, Step.ACTIVATE_ROOT, material(), later)
    assert activated.root == prepared.prepared.authority
    for state in (STATE, activated):
        verify(WEB, leaf_of(state, later), rotation.bundle(activated), later)
    verify(WEB, leaf_of(activated, later), rotation.bundle(prepared), later)


def test_the_old_root_is_retired_when_no_leaf_under_it_can_live():
    activated = take(
        take(STATE, Step.PREPARE_ROOT, material(), NOW), Step.ACTIVATE_ROOT, material(), NOW
    )
    last = leaf_of(STATE, NOW)[0].not_valid_after_utc
    assert due(activated, last) is None
    over = NOW + DAY + SKEW
    assert due(activated, over) is Step.RETIRE_ROOT
    retired = take(activated, Step.RETIRE_ROOT, material(), over)
    assert roots_of(rotation.bundle(retired)) == (activated.root.certificate,)
    with pytest.raises(CertificateRefused, match="no root"):
        verify(WEB, leaf_of(STATE, over), rotation.bundle(retired), over)


def test_the_longest_leaf_decides_when_a_root_retires():
    state = rotation.record_leaf(STATE, 7 * DAY)
    assert rotation.record_leaf(state, DAY) is state
    activated = take(
        take(state, Step.PREPARE_ROOT, material(), NOW), Step.ACTIVATE_ROOT, material(), NOW
    )
    assert due(activated, NOW + 6 * DAY) is None
    assert due(activated, NOW + 8 * DAY) is Step.RETIRE_ROOT


def test_a_root_near_its_end_is_replaced_without_anybody_asking():
    near = NOW + ROOT_LIFETIME - INTERMEDIATE_LIFETIME + timedelta(days=1)
    assert due(STATE, near) is Step.PREPARE_ROOT


def test_under_an_expired_root_nothing_is_waited_for():
    over = NOW + ROOT_LIFETIME + DAY
    prepared = take(STATE, Step.PREPARE_ROOT, material(), over)
    assert due(prepared, over) is Step.ACTIVATE_ROOT


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (Step.ACTIVATE_ROOT, "no root is prepared"),
        (Step.RETIRE_ROOT, "no root is ready"),
    ],
)
def test_a_step_that_makes_no_sense_is_refused(step, message):
    with pytest.raises(InputError, match=message):
        take(STATE, step, material(), NOW)


def test_a_second_root_is_not_prepared_beside_the_first():
    prepared = take(STATE, Step.PREPARE_ROOT, material(), NOW)
    with pytest.raises(
        InputError, match="is prepared already, to be activated at 2026-03-01T12:10"
    ):
        take(prepared, Step.PREPARE_ROOT, material(), NOW)


# --- whatever happens -------------------------------------------------------------------------


@dataclass
class History:
    """A CA over the years, each leaf that it signed and each bundle that it showed."""

    state: State
    now: datetime = NOW
    leaves: list[tuple] = field(default_factory=list)
    bundles: list[tuple[datetime, TrustBundle]] = field(default_factory=list)

    def tend(self) -> None:
        for _ in range(8):
            step = due(self.state, self.now)
            if step is None:
                break
            self.state = take(self.state, step, self.fresh(), self.now)
        assert due(self.state, self.now) is None
        self.bundles.append((self.now, rotation.bundle(self.state)))

    def fresh(self) -> rotation.Material:
        serial = 2 * len(self.bundles) + 1000
        return rotation.Material(
            root_key=MATERIAL.root_key,
            intermediate_key=MATERIAL.intermediate_key,
            root_serial=serial,
            intermediate_serial=serial + 1,
        )

    def issue(self, lifetime: timedelta) -> None:
        self.state = rotation.record_leaf(self.state, lifetime)
        self.leaves.append(leaf_of(self.state, self.now, lifetime))

    def check(self) -> None:
        """Every living leaf is good for every member whose bundle is at most SETTLE old."""
        self.leaves = [c for c in self.leaves if c[0].not_valid_after_utc >= self.now]
        fresh = [bundle for moment, bundle in self.bundles if moment > self.now - SETTLE]
        older = [bundle for moment, bundle in self.bundles if moment <= self.now - SETTLE]
        for bundle in [*older[-1:], *fresh]:
            for chain in self.leaves:
                verify(WEB, chain, bundle, self.now)


HOUR = 3600
JUMPS = st.integers(min_value=0, max_value=2 * HOUR) | st.integers(0, 400 * 24 * HOUR)
ACTIONS = st.lists(
    st.tuples(
        JUMPS,
        st.sampled_from(["issue", "rotate", "rotate-root", "nothing"]),
        st.integers(min_value=1, max_value=int(MAX_LEAF_LIFETIME.total_seconds())),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(actions=ACTIONS)
def test_rotation_always_leaves_a_valid_chain(actions):
    history = History(rotation.found(TRUST_DOMAIN, MATERIAL, NOW))
    history.tend()
    for seconds, action, lifetime in actions:
        history.now += timedelta(seconds=seconds)
        # Members ask all the time; a CA that slept shows its steps from when it wakes up.
        expired = history.state.root.certificate.not_valid_after_utc <= history.now
        history.check()
        history.tend()
        if expired:
            history.bundles = history.bundles[-1:]
        if action == "issue":
            history.issue(timedelta(seconds=lifetime))
        elif action == "rotate":
            history.state = take(
                history.state, Step.RENEW_INTERMEDIATE, history.fresh(), history.now
            )
        elif action == "rotate-root" and history.state.prepared is None:
            history.state = take(history.state, Step.PREPARE_ROOT, history.fresh(), history.now)
            history.bundles.append((history.now, rotation.bundle(history.state)))
        history.check()
        history.issue(timedelta(hours=1))
        history.check()
