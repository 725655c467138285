"""Join tokens in the store: made, listed, revoked, spent.

A record is changed by compare-and-set, so that two joins at once never share a use.
"""

import random
import secrets
from datetime import timedelta

from mesh.ca import tokens
from mesh.ca.tokens import JoinToken, Refusal
from mesh.errors import Conflict, Corrupted, InputError, NotFound, OutcomeUnknown, Unavailable
from mesh.model.identity import ServiceName
from mesh.planning import keyspace
from mesh.ports import Clock, Entry, Put, Store, Transaction

_TRIES = 20
_LONGEST_PAUSE = timedelta(milliseconds=20)


class Registry:
    """The tokens of a store. Every method raises what the store raises."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def create(
        self, service: ServiceName, *, ttl: timedelta, uses: int = 1
    ) -> tuple[str, JoinToken]:
        """A new token, which is nowhere but in the answer, and its record.

        Raises:
            InputError: `ttl` or `uses` is out of bounds.
        """
        if not timedelta() < ttl <= tokens.MAX_TTL:
            raise InputError(
                f"a token may live for {_hours(tokens.MAX_TTL)}, not for {_hours(ttl)}",
                "make it when the host is there: what has joined needs none",
            )
        if not 1 <= uses <= tokens.MAX_USES:
            hint = "make several: one can be revoked without the others"
            raise InputError(f"a token may have 1 to {tokens.MAX_USES} uses, not {uses}", hint)
        await self._forget()
        token = tokens.token_of(secrets.token_urlsafe(tokens.SECRET_BYTES))
        digest = tokens.digest_of(token)
        now = self._clock.now().replace(microsecond=0)
        record = JoinToken(
            id=tokens.id_of(digest), service=service, created=now, expires=now + ttl, uses=uses
        )
        key = keyspace.token(digest)
        await self._store.commit(
            Transaction(expect={key: 0}, puts=(Put(key, tokens.write_token(record)),))
        )
        return token, record

    async def all(self) -> tuple[JoinToken, ...]:
        """Every record, the newest first."""
        found = await self._store.scan(keyspace.TOKENS)
        return tuple(
            sorted(map(_read, found.values()), key=lambda token: token.created, reverse=True)
        )

    async def revoke(self, id: str) -> JoinToken:
        """Forget a token: it admits nobody from now on. Certificates that it gave stay valid.

        Raises:
            NotFound: there is none of that id.
        """
        for key, entry in (await self._store.scan(keyspace.TOKENS)).items():
            record = _read(entry)
            if record.id == id:
                await self._store.commit(Transaction(deletes=(key,)))
                return record
        raise NotFound(f'there is no join token "{id}"', "see them with: mesh token list")

    async def spend(
        self, token: str, service: ServiceName, public_key: str
    ) -> tuple[JoinToken | None, Refusal | None]:
        """Take a use of a token for a join of `service` with the public key of that digest.

        Gives the token's record, where there is one, and why it admits nobody, if it does not.
        """
        key = keyspace.token(tokens.digest_of(token))
        for _ in range(_TRIES):
            entry = (await self._store.fetch([key])).get(key)
            if entry is None:
                return None, Refusal.UNKNOWN
            record = _read(entry)
            after = tokens.redeem(record, service, public_key, self._clock.now())
            if isinstance(after, Refusal):
                return record, after
            if after == record:
                return record, None
            write = Transaction(
                expect={key: entry.version}, puts=(Put(key, tokens.write_token(after)),)
            )
            try:
                await self._store.commit(write)
            except (Conflict, OutcomeUnknown):
                # Read again: another join was first, or this one is written down already.
                await self._clock.sleep(_LONGEST_PAUSE * random.random())  # noqa: S311
                continue
            return after, None
        raise Unavailable("too many hosts use this join token at once", "it is tried again")

    async def _forget(self) -> None:
        """Delete what expired long ago."""
        now = self._clock.now()
        old = [
            key
            for key, entry in (await self._store.scan(keyspace.TOKENS)).items()
            if now - _read(entry).expires > tokens.KEPT
        ]
        for key in old:
            await self._store.commit(Transaction(deletes=(key,)))


def _hours(span: timedelta) -> str:
    return f"{span / timedelta(hours=1):g}h"


def _read(entry: Entry) -> JoinToken:
    try:
        return tokens.read_token(entry.value)
    except ValueError as error:
        raise Corrupted(
            f'the record "{entry.key}" of a join token cannot be read: {error}',
            "delete that key in the store and make another token",
        ) from error
