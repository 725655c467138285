"""Who may wake a sync, how often, and with how much."""

import asyncio
import hashlib
import hmac
import io
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest

from mesh.adapters.clock import SystemClock
from mesh.errors import PortInUse, Unavailable, UsageError
from mesh.model.policy import Address
from mesh.sync.webhook import (
    MAX_BODY_BYTES,
    Bucket,
    Webhook,
    WebhookOptions,
    is_genuine,
    read_secret,
)
from tests.support.manual_clock import ManualClock

SECRET = b"0123456789abcdef0123456789abcdef"


def signed(body: bytes, secret: bytes = SECRET) -> dict[str, str]:
    digest = hmac.new(secret, body, hashlib.sha256).hexdigest()
    return {"X-Hub-Signature-256": f"sha256={digest}"}


class Woken:
    """Counts calls; out of reach if told so."""

    def __init__(self) -> None:
        self.count = 0
        self.is_lost = False

    async def __call__(self) -> None:
        if self.is_lost:
            raise Unavailable("the store does not answer")
        self.count += 1


@asynccontextmanager
async def listening(woken: Woken) -> AsyncIterator[str]:
    ready: asyncio.Future[Address] = asyncio.get_running_loop().create_future()
    options = WebhookOptions(Address("127.0.0.1", 0), SECRET)
    hook = Webhook(options, SystemClock(), woken, ready.set_result)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(hook.run())
        try:
            address = await ready
            yield f"http://{address.address}:{address.port}"
        finally:
            task.cancel()


def test_githubs_own_example_is_genuine():
    # From GitHub's documentation on validating webhook deliveries.
    signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    headers = {"X-Hub-Signature-256": signature}
    assert is_genuine(b"It's a Secret to Everybody", headers, b"Hello, World!")


def test_a_signature_is_of_this_body_and_this_secret():
    assert is_genuine(SECRET, signed(b"{}"), b"{}")
    assert not is_genuine(SECRET, signed(b"{}"), b"{ }")
    assert not is_genuine(SECRET, signed(b"{}", b"another secret, as long"), b"{}")
    assert not is_genuine(SECRET, {"X-Hub-Signature-256": "sha256=\u00e9"}, b"{}")
    assert not is_genuine(SECRET, {}, b"{}")


def test_gitlab_sends_the_secret_itself():
    assert is_genuine(SECRET, {"X-Gitlab-Token": SECRET.decode()}, b"{}")
    assert not is_genuine(SECRET, {"X-Gitlab-Token": "nearly"}, b"{}")
    # A wrong signature is not made good by anything else.
    both = {"X-Hub-Signature-256": "sha256=00", "X-Gitlab-Token": SECRET.decode()}
    assert not is_genuine(SECRET, both, b"{}")


def test_a_bucket_fills_again_with_time():
    clock = ManualClock()
    bucket = Bucket(clock, rate=2.0, burst=3.0)
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]
    clock.advance(timedelta(seconds=1))
    assert [bucket.take() for _ in range(3)] == [True, True, False]


async def test_only_who_knows_the_secret_wakes():
    woken = Woken()
    async with listening(woken) as url, aiohttp.ClientSession() as session:
        async with session.post(url, data=b"{}", headers=signed(b"{}")) as answer:
            assert answer.status == 202
        async with session.post(url, data=b"{}", headers=signed(b"[]")) as answer:
            assert answer.status == 401
        async with session.get(url) as answer:
            assert answer.status == 405
        async with session.get(f"{url}/healthz") as answer:
            assert answer.status == 200
    assert woken.count == 1


async def test_a_body_is_bounded():
    woken = Woken()
    body = bytes(MAX_BODY_BYTES + 1)
    async with (
        listening(woken) as url,
        aiohttp.ClientSession() as session,
        session.post(url, data=io.BytesIO(body), headers=signed(body)) as answer,
    ):
        assert answer.status == 413
    assert woken.count == 0


async def test_calls_are_rate_limited():
    woken = Woken()
    async with listening(woken) as url, aiohttp.ClientSession() as session:
        found = []
        for _ in range(40):
            async with session.post(url, data=b"x") as answer:
                found.append(answer.status)
    assert 429 in found
    assert set(found) == {401, 429}


async def test_a_call_that_cannot_be_passed_on_is_told_so():
    woken = Woken()
    woken.is_lost = True
    async with (
        listening(woken) as url,
        aiohttp.ClientSession() as session,
        session.post(url, data=b"{}", headers=signed(b"{}")) as answer,
    ):
        assert answer.status == 503


async def test_an_address_that_is_taken_is_told():
    async with listening(Woken()) as url:
        port = int(url.rsplit(":", 1)[1])
        options = WebhookOptions(Address("127.0.0.1", port), SECRET)
        with pytest.raises(PortInUse, match=str(port)):
            await Webhook(options, SystemClock(), Woken()).run()


def test_the_secret_is_read_without_its_newline(tmp_path: Path):
    file = tmp_path / "secret"
    file.write_bytes(SECRET + b"\n")
    file.chmod(0o600)
    assert read_secret(file) == SECRET


def test_a_secret_that_is_short_or_public_is_refused(tmp_path: Path):
    file = tmp_path / "secret"
    with pytest.raises(UsageError, match="cannot be read"):
        read_secret(file)
    file.write_bytes(b"short")
    file.chmod(0o600)
    with pytest.raises(UsageError, match="it needs 16"):
        read_secret(file)
    file.write_bytes(SECRET)
    os.chmod(file, 0o644)  # noqa: PTH101 - the mode is the point
    with pytest.raises(UsageError, match="everybody may read"):
        read_secret(file)
