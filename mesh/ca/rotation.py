"""When certificates are renewed and roots replaced: functions of a state and of `now`.

A new root goes through three steps, so that no member ever meets a chain it cannot verify:

1. prepare   the bundle has both roots; everything is still signed under the old one
2. activate  once every member had time to take that bundle, leaves are signed under the new root
3. retire    the old root leaves the bundle once no leaf under it can live any more

`due` names the next step that time asks for, `take` makes it. The caller brings keys and serials.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from mesh.ca import issuance
from mesh.ca.chain import fingerprint, to_pem
from mesh.ca.issuance import BACKDATE, INTERMEDIATE_LIFETIME, Authority
from mesh.errors import CertificateRefused, InputError
from mesh.model.identity import TrustBundle

# Half of a life is left for outages; the spread keeps members from renewing together.
_EARLIEST = 0.50
_SPREAD = 0.16

# How long members have to take a bundle with a new root before anything is signed under it.
SETTLE = timedelta(minutes=10)
# What a verifier's clock may be behind: a leaf looks alive to it for this much longer.
SKEW = timedelta(minutes=1)


class Step(StrEnum):
    """What can be done to a certificate authority."""

    RENEW_INTERMEDIATE = "renew-intermediate"
    PREPARE_ROOT = "prepare-root"
    ACTIVATE_ROOT = "activate-root"
    RETIRE_ROOT = "retire-root"


@dataclass(frozen=True, slots=True)
class Material:
    """What a step makes certificates from: fresh for each `take`."""

    root_key: ec.EllipticCurvePrivateKey = field(repr=False)
    intermediate_key: ec.EllipticCurvePrivateKey = field(repr=False)
    root_serial: int
    intermediate_serial: int


@dataclass(frozen=True, slots=True)
class PreparedRoot:
    """A root that members learn to trust; nothing is signed under it before `activate_at`."""

    authority: Authority
    activate_at: datetime


@dataclass(frozen=True, slots=True)
class RetiringRoot:
    """A root under which nothing is signed any more; leaves under it live until `retire_at`."""

    certificate: x509.Certificate
    retire_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """A certificate authority. `longest_leaf` is the longest lifetime that a leaf was given
    under `root`: it says when a root is out of use.
    """

    trust_domain: str
    root: Authority
    intermediate: Authority
    prepared: PreparedRoot | None = None
    retiring: tuple[RetiringRoot, ...] = ()
    longest_leaf: timedelta = timedelta()


def next_renewal(not_before: datetime, not_after: datetime, jitter: float) -> datetime:
    """When to ask for the next leaf: at 50-66 % of its life, by `jitter` in [0, 1).

    Life counts from the moment of signing, `BACKDATE` after `not_before`, so that leaves of a
    few seconds work too. A leaf without any life left is renewed at once.
    """
    signed = not_before + BACKDATE
    life = max(not_after - signed, timedelta())
    return min(signed + life * (_EARLIEST + _SPREAD * jitter), not_after)


def found(trust_domain: str, material: Material, now: datetime) -> State:
    """A new authority: a root and an intermediate under it.

    Raises:
        CertificateRefused: the trust domain's name is not allowed.
    """
    root = _new_root(trust_domain, material, now)
    return State(
        trust_domain=trust_domain,
        root=root,
        intermediate=_new_intermediate(trust_domain, root, material, now),
    )


def bundle(state: State) -> TrustBundle:
    """What members verify with: the root in use, then the prepared one, then retiring ones."""
    roots = [state.root.certificate]
    if state.prepared:
        roots.append(state.prepared.authority.certificate)
    roots += [root.certificate for root in state.retiring]
    return TrustBundle(state.trust_domain, to_pem(*roots))


def record_leaf(state: State, lifetime: timedelta) -> State:
    """The state that knows of a leaf of that lifetime; write it down before the leaf goes out."""
    if lifetime <= state.longest_leaf:
        return state
    return replace(state, longest_leaf=lifetime)


def due(state: State, now: datetime) -> Step | None:
    """The next step that time asks for; None: nothing. Ask again after each `take`."""
    if any(root.retire_at <= now for root in state.retiring):
        return Step.RETIRE_ROOT
    if state.prepared and state.prepared.activate_at <= now:
        return Step.ACTIVATE_ROOT
    # A root must outlive what its next intermediate signs, with time for members to learn of
    # its successor.
    if not state.prepared and _left(state.root, now) < INTERMEDIATE_LIFETIME:
        return Step.PREPARE_ROOT
    root_end = state.root.certificate.not_valid_after_utc
    renewable = state.intermediate.certificate.not_valid_after_utc < root_end
    if renewable and _left(state.intermediate, now) < INTERMEDIATE_LIFETIME / 2:
        return Step.RENEW_INTERMEDIATE
    return None


def take(
    state: State, step: Step, material: Material, now: datetime, *, settle: timedelta = SETTLE
) -> State:
    """The state after a step, whether or not `due` asked for it.

    `settle` is how long a prepared root waits to be activated; it is not waited for under a
    root that has expired, because nobody can verify anything any more.

    Raises:
        InputError: the step makes no sense now; the message says why.
    """
    match step:
        case Step.RENEW_INTERMEDIATE:
            return replace(
                state, intermediate=_new_intermediate(state.trust_domain, state.root, material, now)
            )
        case Step.PREPARE_ROOT:
            return _prepare_root(state, material, now, settle)
        case Step.ACTIVATE_ROOT:
            return _activate_root(state, material, now)
        case Step.RETIRE_ROOT:
            kept = tuple(root for root in state.retiring if root.retire_at > now)
            if kept == state.retiring:
                raise InputError("no root is ready to be retired")
            return replace(state, retiring=kept)


def _prepare_root(state: State, material: Material, now: datetime, settle: timedelta) -> State:
    if state.prepared:
        raise InputError(
            f"root {fingerprint(state.prepared.authority.certificate)} is prepared already, "
            f"to be activated at {state.prepared.activate_at.isoformat(timespec='seconds')}"
        )
    wait = settle if _left(state.root, now) > timedelta() else timedelta()
    root = _new_root(state.trust_domain, material, now)
    return replace(state, prepared=PreparedRoot(root, now + wait))


def _activate_root(state: State, material: Material, now: datetime) -> State:
    if state.prepared is None:
        raise InputError("no root is prepared", "prepare one first: mesh ca rotate --root")
    root = state.prepared.authority
    retiring = RetiringRoot(state.root.certificate, now + state.longest_leaf + SKEW)
    return replace(
        state,
        root=root,
        intermediate=_new_intermediate(state.trust_domain, root, material, now),
        prepared=None,
        retiring=(*state.retiring, retiring),
    )


def _left(authority: Authority, now: datetime) -> timedelta:
    return authority.certificate.not_valid_after_utc - now


def _new_root(trust_domain: str, material: Material, now: datetime) -> Authority:
    key = material.root_key
    draft = issuance.prepare_root(
        trust_domain, key.public_key(), serial=material.root_serial, now=now
    )
    return Authority(issuance.sign(issuance.check(draft), key), key)


def _new_intermediate(
    trust_domain: str, root: Authority, material: Material, now: datetime
) -> Authority:
    key = material.intermediate_key
    draft = issuance.prepare_intermediate(
        trust_domain,
        key.public_key(),
        root.certificate,
        serial=material.intermediate_serial,
        now=now,
    )
    return Authority(issuance.sign(issuance.check(draft), root.private_key), key)


def consistent(state: State) -> State:
    """The state itself, where its keys belong to its certificates.

    Raises:
        CertificateRefused: a key is another certificate's, or the intermediate is not of the
            root: the state was not written by `found` and `take`.
    """
    authorities = [state.root, state.intermediate]
    if state.prepared:
        authorities.append(state.prepared.authority)
    for authority in authorities:
        if authority.private_key.public_key() != authority.certificate.public_key():
            raise CertificateRefused(
                f"private key is not that of {fingerprint(authority.certificate)}"
            )
    if state.intermediate.certificate.issuer != state.root.certificate.subject:
        raise CertificateRefused("intermediate is not signed by the root in use")
    return state
