"""Issuer over the local certificate authority: one file, made by whoever needs it first.

`<folder>/ca.json` (0600, replaced whole) holds certificates and keys, `<folder>/lock` serializes
changes among the processes of the host; reading takes no lock. What to change, and when, is
`mesh.ca.rotation`'s; this shell brings the clock, randomness, the disk and the threads.
"""

import asyncio
import errno
import fcntl
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import structlog
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from mesh.ca import issuance, record, rotation, server
from mesh.ca.chain import fingerprint, to_pem
from mesh.ca.linter import Role
from mesh.ca.request import new_key_and_csr
from mesh.ca.rotation import Material, State, Step
from mesh.ca.status import AuthorityStatus, CertificateStatus, CertificateUse, status_of
from mesh.errors import (
    CertificateRefused,
    InputError,
    NotFound,
    OutOfSpace,
    OutsideError,
    Unavailable,
)
from mesh.model.identity import DEFAULT_TRUST_DOMAIN, SVID, Identity, TrustBundle
from mesh.ports import Clock

__all__ = [
    "AuthorityStatus",
    "CertificateStatus",
    "CertificateUse",
    "LocalIssuer",
    "new_key_and_csr",
]

_LOG = structlog.get_logger(__name__)

_STATE = "ca.json"
_LOCK = "lock"
_LOCK_DEADLINE = timedelta(seconds=10)
_LOCK_POLL = timedelta(milliseconds=10)
_OTHERS = stat.S_IRWXG | stat.S_IRWXO

_Change = Callable[[State | None], State]


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
        self._cached: tuple[tuple[int, int, int], State] | None = None
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
        signed = await asyncio.to_thread(self._issue_if_ready, identity, csr_pem, lifetime)
        if signed is None:
            state = await self._current(lifetime)
            signed = await asyncio.to_thread(self._issue, state, identity, csr_pem, lifetime)
        return signed

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
        return rotation.bundle(await self._current(timedelta()))

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

    # --- signing --------------------------------------------------------------------------

    def _issue_if_ready(
        self, identity: Identity, csr_pem: bytes, lifetime: timedelta
    ) -> bytes | None:
        """The chain; None: the state must be changed first. One turn in a thread instead of two."""
        state = self._load()
        if state is None or not self._is_ready(state, lifetime):
            return None
        return self._issue(state, identity, csr_pem, lifetime)

    def _issue(
        self, state: State, identity: Identity, csr_pem: bytes, lifetime: timedelta
    ) -> bytes:
        if identity.trust_domain != state.trust_domain:
            raise self._other_trust_domain(state, identity.trust_domain)
        leaf = issuance.issue_leaf(
            identity,
            csr_pem,
            state.intermediate,
            serial=x509.random_serial_number(),
            now=self._clock.now(),
            lifetime=lifetime,
        )
        return to_pem(leaf, state.intermediate.certificate)

    def _is_ready(self, state: State, lifetime: timedelta) -> bool:
        """Whether nothing is due, and a leaf of that lifetime needs nothing written down."""
        return rotation.due(state, self._clock.now()) is None and lifetime <= state.longest_leaf

    # --- the state ------------------------------------------------------------------------

    async def _current(self, lifetime: timedelta) -> State:
        """The state with everything done that is due, ready for a leaf of `lifetime`."""
        state = await asyncio.to_thread(self._load)
        if state and self._is_ready(state, lifetime):
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
                f'the certificate authority in "{self._folder}" is gone: "{_STATE}" was removed',
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

    async def _change(self, change: _Change) -> State:
        """Replace the state under the lock by what `change` makes of it."""
        give_up = self._clock.monotonic() + _LOCK_DEADLINE.total_seconds()
        while True:
            # All in one thread: a cancelled caller does not give the lock away half-way.
            state = await asyncio.to_thread(self._try_change, change)
            if state is not None:
                return state
            if self._clock.monotonic() >= give_up:
                raise Unavailable(f'"{self._folder / _LOCK}" is held by another process for long')
            await self._clock.sleep(_LOCK_POLL)

    def _try_change(self, change: _Change) -> State | None:
        """None: somebody else holds the lock."""
        with self._errors("write"):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._folder.stat().st_mode & _OTHERS:
                self._folder.chmod(0o700)
            lock = os.open(self._folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return None
            before = self._load()
            after = change(before)
            if after != before:
                with self._errors("write"):
                    self._write(record.encode(after))
                _log_change(before, after)
            self._was_there = True
            return after
        finally:
            os.close(lock)

    def _load(self) -> State | None:
        """The state on disk, None if there is none; parsed again only when it changed."""
        path = self._folder / _STATE
        with self._errors("read"):
            try:
                found = path.stat()
            except FileNotFoundError:
                return None
            if found.st_mode & _OTHERS:
                raise OutsideError(
                    f'"{path}" holds private keys and its mode {stat.S_IMODE(found.st_mode):04o} '
                    "lets others at them",
                    f'if nobody read it: chmod 600 "{path}"; else move it away and start anew',
                )
            mark = (found.st_ino, found.st_mtime_ns, found.st_size)
            if self._cached is None or self._cached[0] != mark:
                self._cached = (mark, self._decode(path.read_bytes()))
        self._was_there = True
        state = self._cached[1]
        if self._trust_domain is not None and state.trust_domain != self._trust_domain:
            raise self._other_trust_domain(state, self._trust_domain)
        return state

    def _decode(self, content: bytes) -> State:
        try:
            return record.decode(content)
        except CertificateRefused as error:
            raise OutsideError(
                f'"{self._folder / _STATE}" is damaged: {error.message}',
                "restore it from a backup, or move it away: a new authority is made then, and "
                "every sidecar needs a certificate of it",
            ) from None

    def _write(self, content: bytes) -> None:
        temporary = self._folder / f".{_STATE}.{os.getpid()}"
        temporary.unlink(missing_ok=True)
        file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(file, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(file)
            temporary.replace(self._folder / _STATE)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    @contextmanager
    def _errors(self, verb: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            path = error.filename or self._folder
            message = f'cannot {verb} the certificate authority: {error.strerror} ("{path}")'
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise OutOfSpace(message, "free space on this disk") from error
            hint = f'its folder "{self._folder}" must belong to this user'
            raise OutsideError(message, hint) from error


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
