"""The `Issuer` of an authority in a folder: brings clock, randomness and threads to its files."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import structlog
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from mesh.adapters.issuer.files import Change, Files
from mesh.ca import issuance, rotation, server
from mesh.ca.chain import fingerprint, to_pem
from mesh.ca.linter import Role
from mesh.ca.rotation import Material, State, Step
from mesh.ca.status import AuthorityStatus, status_of
from mesh.errors import InputError, NotFound, OutsideError, Unavailable
from mesh.model.identity import DEFAULT_TRUST_DOMAIN, SVID, Identity, TrustBundle
from mesh.ports import Clock

_LOG = structlog.get_logger(__name__)

_LOCK_DEADLINE = timedelta(seconds=10)
_LOCK_POLL = timedelta(milliseconds=10)


class LocalIssuer:
    """The CA whose files lie in `folder`. `trust_domain` None takes the one that the CA was made
    with (`mesh.local` for a new one); a CA of another trust domain is refused.

    Every method may raise OutsideError (the files are unreadable, damaged or not writable; the
    message names the file), and those that change it Unavailable (the lock is held for long).
    """

    def __init__(self, folder: Path, *, clock: Clock, trust_domain: str | None = None) -> None:
        self._folder = folder
        self._clock = clock
        self._trust_domain = trust_domain
        self._files = Files(folder)
        self._told: tuple[State, TrustBundle] | None = None
        self._was_there = False

    async def issue(
        self,
        identity: Identity,
        csr_pem: bytes,
        lifetime: timedelta,
        current: SVID | None = None,
    ) -> bytes:
        """The certificate chain (PEM, leaf first, no root) for a CSR made by the caller.

        Whoever can read the files may have any certificate: `current` proves nothing here.

        Raises:
            CertificateRefused: the request or the lifetime breaks the profile.
            InputError: the identity is of another trust domain.
        """
        state = await self._current(lifetime)
        if identity.trust_domain != state.trust_domain:
            raise self._other_trust_domain(state, identity.trust_domain)
        # Not in a thread: it takes a third of a millisecond, and a turn in one a good part of that.
        leaf = issuance.issue_leaf(
            identity,
            csr_pem,
            state.intermediate,
            serial=x509.random_serial_number(),
            now=self._clock.now(),
            lifetime=lifetime,
        )
        return to_pem(leaf, state.intermediate.certificate)

    async def issue_server(self, names: Sequence[str], csr_pem: bytes) -> bytes:
        """The chain (PEM, leaf first, no root) for the authority's own server, which is reached
        by these names; it lives for `server.SERVER_LIFETIME`.

        Raises:
            CertificateRefused: a name is none, or the request breaks the profile.
        """
        state = await self._current(timedelta())
        leaf = server.issue_server(
            names,
            csr_pem,
            state.intermediate,
            serial=x509.random_serial_number(),
            now=self._clock.now(),
        )
        return to_pem(leaf, state.intermediate.certificate)

    async def bundle(self) -> TrustBundle:
        """The trust bundle as of now; makes the CA on first use."""
        state = await self._current(timedelta())
        if self._told is None or self._told[0] is not state:
            self._told = (state, rotation.bundle(state))
        return self._told[1]

    async def init(self) -> AuthorityStatus:
        """Make the CA.

        Raises:
            InputError: there is one already.
        """

        def change(state: State | None) -> State:
            if state is not None:
                raise InputError(
                    f'there is a certificate authority in "{self._folder}" already',
                    "see it with: mesh ca status",
                )
            return self._found()

        return status_of(await self._change(change))

    async def rotate(
        self, *, root: bool = False, settle: timedelta = rotation.SETTLE
    ) -> AuthorityStatus:
        """Replace the intermediate now; with `root`, prepare a new root as well, which is
        activated after `settle` and whose predecessor is retired when no leaf needs it.

        Raises:
            NotFound: there is no CA yet.
            InputError: a root is prepared already.
        """
        step = Step.PREPARE_ROOT if root else Step.RENEW_INTERMEDIATE

        def change(state: State | None) -> State:
            state = self._advance(self._required(state))
            now = self._clock.now()
            return rotation.take(state, step, _material(), now, settle=settle)

        return status_of(await self._change(change))

    async def activate(self) -> AuthorityStatus:
        """Sign under the prepared root from now on: for a caller that knows that every member
        has the new bundle.

        Raises:
            NotFound: there is no CA yet.
            InputError: no root is prepared.
        """

        def change(state: State | None) -> State:
            return rotation.take(
                self._required(state), Step.ACTIVATE_ROOT, _material(), self._clock.now()
            )

        return status_of(await self._change(change))

    async def status(self) -> AuthorityStatus:
        """The CA as it is; changes nothing.

        Raises:
            NotFound: there is no CA yet.
        """
        return status_of(self._required(await asyncio.to_thread(self._load)))

    # --- the state ------------------------------------------------------------------------

    async def _current(self, lifetime: timedelta) -> State:
        """The state with everything done that is due, ready for a leaf of `lifetime`."""
        state = self._checked(self._files.unchanged()) or await asyncio.to_thread(self._load)
        if state and lifetime <= state.longest_leaf and not rotation.due(state, self._clock.now()):
            return state

        def change(found: State | None) -> State:
            if found is None:
                self._refuse_anew()
            return rotation.record_leaf(self._advance(found or self._found()), lifetime)

        if not issuance.leaf_lifetime_is_allowed(lifetime):
            lifetime = timedelta()  # never recorded: `issue_leaf` refuses it by name
        try:
            return await self._change(change)
        except OutsideError as error:
            if state is None or lifetime > state.longest_leaf:
                raise
            _LOG.warning("certificate authority cannot be changed", reason=error.message)
            return state

    def _found(self) -> State:
        trust_domain = self._trust_domain or DEFAULT_TRUST_DOMAIN
        return rotation.found(trust_domain, _material(), self._clock.now())

    def _refuse_anew(self) -> None:
        """Whoever knew an authority does not make another because its files are gone: peers
        would stop trusting one another at once.
        """
        if self._was_there:
            raise OutsideError(
                f'the certificate authority in "{self._folder}" is gone: "ca.json" was removed',
                "restore it from a backup; for a new one, which nobody trusts yet: mesh ca init",
            )

    def _advance(self, state: State) -> State:
        now = self._clock.now()
        while (step := rotation.due(state, now)) is not None:
            state = rotation.take(state, step, _material(), now)
        return state

    def _required(self, state: State | None) -> State:
        if state is None:
            raise NotFound(
                f'there is no certificate authority in "{self._folder}"',
                "make one with: mesh ca init",
            )
        return state

    def _other_trust_domain(self, state: State, asked: str) -> InputError:
        return InputError(
            f'the certificate authority in "{self._folder}" is of trust domain '
            f'"{state.trust_domain}", not "{asked}": a trust domain is fixed when it is made',
            f'set trustDomain back to "{state.trust_domain}"; to migrate, stop the sidecars, move '
            f'"{self._folder}" away and start them again: every identity is new then, and old '
            "and new members do not trust each other",
        )

    # --- the files ------------------------------------------------------------------------

    async def _change(self, change: Change) -> State:
        """Replace the state under the lock by what `change` makes of it."""
        give_up = self._clock.monotonic() + _LOCK_DEADLINE.total_seconds()

        def checked(found: State | None) -> State:
            return change(self._checked(found))

        while True:
            changed = await asyncio.to_thread(self._files.change, checked)
            if changed is not None:
                self._was_there = True
                _log_change(*changed)
                return changed[1]
            if self._clock.monotonic() >= give_up:
                raise Unavailable(f'"{self._files.lock}" is held by another process for long')
            await self._clock.sleep(_LOCK_POLL)

    def _load(self) -> State | None:
        return self._checked(self._files.load())

    def _checked(self, state: State | None) -> State | None:
        if state is None:
            return None
        self._was_there = True
        if self._trust_domain is not None and state.trust_domain != self._trust_domain:
            raise self._other_trust_domain(state, self._trust_domain)
        return state


def _log_change(before: State | None, after: State) -> None:
    facts = _facts(after)
    if before is None or facts != _facts(before):
        _LOG.info("certificate authority changed", **facts)


def _facts(state: State) -> dict[str, str]:
    return {
        "trust_domain": state.trust_domain,
        "roots": " ".join(
            one.fingerprint for one in status_of(state).certificates if one.role is Role.ROOT
        ),
        "intermediate": fingerprint(state.intermediate.certificate),
    }


def _material() -> Material:
    return Material(
        root_key=ec.generate_private_key(ec.SECP256R1()),
        intermediate_key=ec.generate_private_key(ec.SECP256R1()),
        root_serial=x509.random_serial_number(),
        intermediate_serial=x509.random_serial_number(),
    )
