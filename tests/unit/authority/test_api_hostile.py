"""Whoever reaches the port: what is refused, and that it costs nobody else anything."""

import asyncio
import logging
import ssl
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from mesh import tls
from mesh.adapters.clock import SystemClock
from mesh.adapters.issuer import LocalIssuer
from mesh.authority.limits import Limits, Rate
from mesh.ca.chain import read_certificates
from mesh.ca.request import new_key_and_csr
from mesh.ca.rotation import SKEW
from mesh.model.identity import SVID
from mesh.ports import Store
from tests.support.authority import (
    WEB,
    Service,
    ShiftedClock,
    ask,
    bearer,
    connection,
    serving,
    svid_of,
)
from tests.support.revisions import CLOCK

SECOND = timedelta(seconds=1)


class Stopwatch(SystemClock):
    """Real time of day; seconds pass as the test says."""

    passed = 0.0

    def monotonic(self) -> float:
        return self.passed


# --- limits -------------------------------------------------------------------------------------


async def test_an_address_that_is_refused_too_often_waits(service: Service) -> None:
    statuses: list[int] = []
    async with await service.session() as http:
        while 429 not in statuses:
            async with http.post("/v1/join", json={}, headers=bearer("x")) as answer:
                statuses.append(answer.status)
                if answer.status == 429:
                    assert answer.headers["Retry-After"] == "1"
    assert 50 <= statuses.count(400) <= 60


async def test_joins_that_are_refused_keep_nobody_behind_the_address_from_renewing(
    tmp_path: Path, store: Store
) -> None:
    limits = Limits(refusals=Rate(burst=3, per_second=0))
    async with serving(tmp_path / "ca", store, limits=limits) as service:
        svid = await svid_of(service.client(tmp_path / "host", await service.token()))
        async with await service.session(svid) as http:
            statuses = [await _status(http, "/v1/join") for _ in range(5)]
            assert statuses == [401, 401, 401, 429, 429]
            assert await _status(http, "/v1/renew") == 200


async def test_who_asks_too_often_waits_no_longer_than_others_and_is_told_of_once(
    tmp_path: Path, store: Store
) -> None:
    clock = Stopwatch()
    limits = Limits(requests=Rate(burst=4, per_second=1))
    async with (
        serving(tmp_path / "ca", store, clock=clock, limits=limits) as service,
        await service.session() as http,
    ):
        with structlog.testing.capture_logs() as logs:
            flood = [await _status(http, "/v1/renew") for _ in range(40)]
        clock.passed += 1
        assert await _status(http, "/v1/renew") == 401
    assert flood == [401] * 4 + [429] * 36
    assert [line["code"] for line in logs].count("too-many-requests") == 1


# --- what is no request -------------------------------------------------------------------------


async def test_a_body_that_trickles_in_is_not_waited_for(tmp_path: Path, store: Store) -> None:
    limits = Limits(body_seconds=0.05, idle_seconds=0.2)
    async with serving(tmp_path / "ca", store, limits=limits) as service:
        reader, writer = await connection(service)
        writer.write(b"POST /v1/join HTTP/1.1\r\nHost: ca\r\nContent-Length: 100\r\n\r\n{")
        async with asyncio.timeout(5):
            assert (await reader.readline()).startswith(b"HTTP/1.1 408")
        writer.close()


@pytest.mark.parametrize("said", [b"", b"POST /v1/join HTTP/1.1\r\nHost:"])
async def test_a_connection_that_says_nothing_whole_is_closed(
    tmp_path: Path, store: Store, said: bytes
) -> None:
    async with serving(tmp_path / "ca", store, limits=Limits(idle_seconds=0.1)) as service:
        reader, writer = await connection(service)
        writer.write(said)
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        writer.close()


async def test_a_body_that_is_too_large_is_a_refusal_like_others(
    tmp_path: Path, store: Store
) -> None:
    limits = Limits(refusals=Rate(burst=1, per_second=0))
    async with (
        serving(tmp_path / "ca", store, limits=limits) as service,
        await service.session() as http,
    ):
        async with http.post("/v1/join", data=b"x" * (limits.body_bytes + 1)) as answer:
            assert answer.status == 413
            assert "larger than 32768 bytes" in (await answer.json())["error"]["message"]
        assert await _status(http, "/v1/join") == 429


async def test_requests_beyond_those_under_way_are_turned_away_and_told_of_once(
    tmp_path: Path, store: Store
) -> None:
    async with serving(tmp_path / "ca", store, limits=Limits(at_once=0)) as service:
        with structlog.testing.capture_logs() as logs:
            async with await service.session() as http:
                statuses = [await _status(http, "/v1/renew") for _ in range(3)]
    assert statuses == [503] * 3
    assert [line.get("code") for line in logs].count("busy") == 1


HEAD = b"POST /v1/join HTTP/1.1\r\nHost: ca\r\nAuthorization: Bearer mesh_join_secret\r\n"


@pytest.mark.parametrize(
    "said",
    [
        b"\x00\x01 mesh_join_secret\r\n\r\n",
        HEAD + b"X: " + b"mesh_join_secret" * 1000 + b"\r\n\r\n",
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nmesh_join_secret\r\n\r\n",
        HEAD + b"Content-Length: 20000\r\n\r\n" + b"[" * 20_000,
    ],
    ids=["no-http", "long-header", "bad-length", "two-lengths", "bad-chunk", "deep-json"],
)
async def test_what_is_not_http_or_json_is_refused_and_not_quoted(
    service: Service, said: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with structlog.testing.capture_logs() as logs, caplog.at_level(logging.DEBUG):
        reader, writer = await connection(service)
        writer.write(said)
        async with asyncio.timeout(5):
            assert b" 400 " in await reader.readline()
        writer.close()
    assert not [line for line in logs if line["log_level"] == "error"]
    assert "Traceback" not in caplog.text
    assert "mesh_join_secret" not in caplog.text + repr(logs)


async def test_a_host_that_dies_in_the_middle_of_its_request_is_no_failure_of_ours(
    tmp_path: Path, store: Store
) -> None:
    with structlog.testing.capture_logs() as logs:
        async with serving(tmp_path / "ca", store) as service:
            _, writer = await connection(service)
            writer.write(HEAD + b"Content-Length: 100\r\n\r\n{")
            await writer.drain()
            writer.transport.abort()
            async with await service.session() as http:
                assert await _status(http, "/v1/renew") == 401
    assert not [line for line in logs if line["log_level"] == "error"]


# --- whose certificate --------------------------------------------------------------------------


async def test_only_tls_1_3_is_spoken(service: Service) -> None:
    context = tls.unverified_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(OSError):  # noqa: PT011 - an alert or a reset, as the moment has it
        await asyncio.open_connection("127.0.0.1", service.serving.listen.port, ssl=context)


async def test_a_strangers_certificate_is_refused_in_the_handshake(
    service: Service, tmp_path: Path, store: Store
) -> None:
    stranger = LocalIssuer(tmp_path / "stranger", clock=CLOCK)
    svid = await svid_of(stranger)
    await _refused_in_the_handshake(service, svid)


async def test_a_certificate_that_expired_is_refused_in_the_handshake(
    service: Service, tmp_path: Path
) -> None:
    svid = await svid_of(service.client(tmp_path / "host", await service.token()), lifetime=SECOND)
    await CLOCK.sleep(svid.not_after - CLOCK.now())
    await _refused_in_the_handshake(service, svid)


async def test_a_connection_that_outlives_its_certificate_renews_nothing(
    service: Service, tmp_path: Path
) -> None:
    svid = await svid_of(service.client(tmp_path / "host", await service.token()), lifetime=SECOND)
    async with await service.session(svid) as http:
        assert await _status(http, "/v1/renew") == 200
        await CLOCK.sleep(svid.not_after - CLOCK.now())
        async with http.post("/v1/renew", json=ask()) as answer:
            assert answer.status == 403
            assert (await answer.json())["error"]["code"] == "certificate-expired"


async def test_a_certificate_under_a_root_that_was_given_up_is_refused(
    tmp_path: Path, store: Store
) -> None:
    folder = tmp_path / "ca"
    async with serving(folder, store) as service:
        svid = await svid_of(service.client(tmp_path / "host", await service.token()))
        await service.issuer.rotate(root=True)
        await service.issuer.activate()
    later = ShiftedClock(timedelta(hours=1) + SKEW)
    roots = (await LocalIssuer(folder, clock=later).bundle()).roots_pem  # retires the old one
    assert roots.count(b"BEGIN") == 1
    async with serving(folder, store) as service:
        await _refused_in_the_handshake(service, svid)


async def test_the_servers_own_certificate_renews_nothing(service: Service) -> None:
    key_pem, csr_pem = new_key_and_csr(WEB)
    chain_pem = await service.issuer.issue_server(["web"], csr_pem)
    end = read_certificates(chain_pem)[0].not_valid_after_utc
    await _refused_in_the_handshake(service, SVID(WEB, chain_pem, key_pem, CLOCK.now(), end))


# --- what is asked for --------------------------------------------------------------------------


Requests = x509.CertificateSigningRequestBuilder


def _request(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> Requests:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "admin")])
    return Requests().subject_name(name)


def _greedy() -> bytes:
    """Other names, and to be an authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    names = [x509.DNSName("admin"), x509.UniformResourceIdentifier(f"{WEB.uri}-admin")]
    request = (
        _request(key)
        .add_extension(x509.SubjectAlternativeName(names), critical=True)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return request.public_bytes(serialization.Encoding.PEM)


def _rsa() -> bytes:
    key = rsa.generate_private_key(65537, 2048)
    return _request(key).sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _ed25519() -> bytes:
    key = ed25519.Ed25519PrivateKey.generate()
    return (
        Requests()
        .subject_name(x509.Name([]))
        .sign(key, None)
        .public_bytes(serialization.Encoding.PEM)
    )


def _sha1() -> bytes:
    """Signed by its own key, with a hash that collides (ecdsa-with-SHA1, RFC 3279)."""
    key = ec.generate_private_key(ec.SECP256R1())
    content = _request(key).sign(key, hashes.SHA256()).tbs_certrequest_bytes
    signature = key.sign(content, ec.ECDSA(hashes.SHA1()))
    algorithm = bytes.fromhex("300906072a8648ce3d0401")
    body = content + algorithm + bytes((3, len(signature) + 1, 0)) + signature
    assert 0x80 <= len(body) < 0x100
    request = x509.load_der_x509_csr(bytes((0x30, 0x81, len(body))) + body)
    return request.public_bytes(serialization.Encoding.PEM)


async def test_a_request_for_more_gets_what_its_proof_is_for(
    service: Service, tmp_path: Path
) -> None:
    svid = await svid_of(service.client(tmp_path / "host", await service.token()))
    async with (
        await service.session(svid) as http,
        http.post("/v1/renew", json=ask(csr=_greedy().decode())) as answer,
    ):
        leaf = read_certificates((await answer.json())["chain"].encode())[0]
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.UniformResourceIdentifier(WEB.uri)]
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert leaf.subject == x509.Name([])


@pytest.mark.parametrize(
    ("make", "message"),
    [(_rsa, "RSA-2048"), (_ed25519, "Ed25519"), (_sha1, "not signed by its own key")],
)
async def test_a_weak_or_foreign_key_is_refused_by_name(
    service: Service, tmp_path: Path, make: Callable[[], bytes], message: str
) -> None:
    svid = await svid_of(service.client(tmp_path / "host", await service.token()))
    async with (
        await service.session(svid) as http,
        http.post("/v1/renew", json=ask(csr=make().decode())) as answer,
    ):
        assert answer.status == 422
        assert message in (await answer.json())["error"]["message"]


# --- what is told -------------------------------------------------------------------------------


async def test_no_secret_and_no_certificate_is_in_the_log_at_any_level(
    service: Service, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with structlog.testing.capture_logs() as logs, caplog.at_level(logging.DEBUG):
        token = await service.token()
        svid = await svid_of(service.client(tmp_path / "host", token))
        await svid_of(service.client(tmp_path / "host"), current=svid)
        async with await service.session() as http:
            for body in ({}, ask(), ask(service="api")):
                async with http.post("/v1/join", json=body, headers=bearer(token)) as answer:
                    assert answer.status >= 400
    told = f"{logs!r} {caplog.text}"
    assert {line["event"] for line in logs} >= {"issued a certificate", "refused a request"}
    assert token not in told
    assert "BEGIN" not in told
    assert svid.private_key_pem.decode().splitlines()[1] not in told


async def _status(http: object, path: str) -> int:
    async with http.post(path, json=ask()) as answer:  # type: ignore[attr-defined]
        return int(answer.status)


async def _refused_in_the_handshake(service: Service, svid: SVID) -> None:
    async with await service.session(svid) as http:
        with pytest.raises((ssl.SSLError, OSError)):
            async with http.post("/v1/renew", json=ask()):
                pass
