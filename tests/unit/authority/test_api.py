from pathlib import Path

import pytest

from mesh.authority.limits import Limits
from mesh.ca.chain import read_certificates
from mesh.model.identity import Identity, ServiceName
from mesh.ports import Store
from tests.support.authority import ANY, WEB, Service, ask, bearer, serving, svid_of


async def test_a_token_and_a_request_get_a_chain_and_the_roots(service: Service) -> None:
    token = await service.token()
    async with await service.session() as http:
        async with http.post("/v1/join", json=ask(), headers=bearer(token)) as answer:
            assert answer.status == 200
            found = await answer.json()
        async with http.get("/v1/bundle") as answer:
            assert found["bundle"] == await answer.json()
    assert found["bundle"]["trust_domain"] == "mesh.local"
    leaf, intermediate = read_certificates(found["chain"].encode())
    leaf.verify_directly_issued_by(intermediate)
    (root,) = read_certificates(found["bundle"]["roots"].encode())
    intermediate.verify_directly_issued_by(root)


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"service": "api"}, 403, "token-other-service"),
        ({"namespace": "shop"}, 403, "token-other-service"),
        ({"trust_domain": "other.example"}, 403, "other-trust-domain"),
        ({"csr": "nonsense"}, 422, "certificate-refused"),
        ({"csr": 7}, 422, "certificate-refused"),
        ({"lifetime_seconds": -1}, 422, "certificate-refused"),
        ({"lifetime_seconds": "long"}, 400, "bad-request"),
        ({"lifetime_seconds": 1e300}, 400, "bad-request"),
        ({"service": ["web"]}, 400, "bad-request"),
    ],
)
async def test_a_join_that_is_refused_spends_nothing(
    service: Service, change: dict[str, object], status: int, code: str
) -> None:
    token = await service.token()
    async with await service.session() as http:
        async with http.post("/v1/join", json=ask() | change, headers=bearer(token)) as answer:
            assert answer.status == status
            error = (await answer.json())["error"]
        assert error["code"] == code
        assert token not in error["message"] + error["hint"]
        async with http.post("/v1/join", json=ask(), headers=bearer(token)) as answer:
            assert answer.status == 200


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "token-missing"),
        ({"Authorization": "Basic eA=="}, "token-missing"),
        (bearer("mesh_join_" + "x" * 43), "token-unknown"),
        (bearer(""), "token-missing"),
    ],
)
async def test_without_a_known_token_nobody_joins(
    service: Service, headers: dict[str, str], code: str
) -> None:
    async with (
        await service.session() as http,
        http.post("/v1/join", json=ask(), headers=headers) as answer,
    ):
        assert answer.status == 401
        assert (await answer.json())["error"]["code"] == code


async def test_a_renewal_is_for_the_identity_of_the_certificate_whatever_the_request_says(
    service: Service, tmp_path: Path
) -> None:
    svid = await svid_of(service.client(tmp_path / "host", await service.token()))
    other = Identity("mesh.local", ServiceName("default", "admin"))
    async with (
        await service.session(svid) as http,
        http.post("/v1/renew", json=ask(other)) as answer,
    ):
        assert answer.status == 200
        leaf = read_certificates((await answer.json())["chain"].encode())[0]
    assert WEB.uri.encode() in leaf.tbs_certificate_bytes
    assert b"admin" not in leaf.tbs_certificate_bytes


async def test_a_renewal_needs_a_certificate(service: Service) -> None:
    async with await service.session() as http, http.post("/v1/renew", json=ask()) as answer:
        assert answer.status == 401
        assert (await answer.json())["error"]["code"] == "certificate-required"


async def test_what_is_no_request_is_told_like_a_refusal(service: Service) -> None:
    async with await service.session() as http:
        for method, path, body, status in (
            ("POST", "/v1/join", b"{", 400),
            ("POST", "/v1/join", b"[]", 400),
            ("POST", "/v1/join", b"x" * (Limits().body_bytes + 1), 413),
            ("GET", "/v1/join", b"", 405),
            ("GET", "/v2", b"", 404),
        ):
            async with http.request(method, path, data=body) as answer:
                assert (answer.status, set(await answer.json())) == (status, {"error"})


async def test_the_figures_count_what_happened_and_a_plain_listener_has_nothing_else(
    tmp_path: Path, store: Store
) -> None:
    async with serving(tmp_path / "ca", store, metrics=ANY) as service:
        await svid_of(service.client(tmp_path / "host", await service.token()))
        async with await service.session() as http:
            async with http.post("/v1/join", json=ask()) as answer:
                assert answer.status == 401
            assert service.serving.metrics is not None
            plain = f"http://127.0.0.1:{service.serving.metrics.port}"
            async with http.get(f"{plain}/metrics") as answer:
                assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
                lines = (await answer.text()).splitlines()
            async with http.get(f"{plain}/v1/bundle") as answer:
                assert answer.status == 404
            async with http.get(f"{plain}/healthz") as answer:
                assert (await answer.json())["status"] == "ok"
    assert 'mesh_ca_certificates_issued_total{kind="join"} 1' in lines
    assert 'mesh_ca_requests_refused_total{kind="join",reason="token-missing"} 1' in lines
    assert 'mesh_ca_request_duration_seconds_count{kind="join"} 2' in lines
    assert "mesh_ca_published 1" in lines
