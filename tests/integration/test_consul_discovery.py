"""Consul on its bad days: restarted empty, stopped, without rights, behind TLS."""

import asyncio
import json
import signal
import urllib.request
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import pytest

from mesh.adapters.clock import SystemClock
from mesh.adapters.consul import ConsulDiscovery, ConsulSettings, shapes
from mesh.adapters.consul.client import Client, path
from mesh.errors import Denied, InputError, Unavailable, UsageError
from mesh.model.catalog import Endpoint, Health
from mesh.model.identity import ServiceName
from mesh.ports import Interest
from tests.support.servers import consul, free_ports
from tests.support.tls import Authority

API = ServiceName("default", "api")
ENDPOINT = Endpoint(id="h1", service=API, address="192.0.2.1", port=1)
LONG = timedelta(minutes=1)
SHORT = timedelta(seconds=1)
ROOT = "root-token"
ACCESS_CONTROL = f"""
acl {{
  enabled = true
  default_policy = "deny"
  policy_ttl = "0s"
  token_ttl = "0s"
  tokens {{ master = "{ROOT}" agent = "{ROOT}" }}
}}
"""


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    with consul(tmp_path_factory.mktemp("consul")) as server:
        yield server


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    extra = ["-hcl", ACCESS_CONTROL]
    with consul(tmp_path_factory.mktemp("consul-acl"), extra=extra) as server:
        yield server


def connect(server, **settings):
    return ConsulDiscovery(ConsulSettings(address=server.endpoint, **settings), clock=SystemClock())


@asynccontextmanager
async def watched(discovery, *services, names=False):
    async with (
        discovery,
        aclosing(discovery.watch(Interest(frozenset(services), names))) as catalogs,
    ):
        yield catalogs


async def until(catalogs, wanted):
    seen = None
    try:
        async with asyncio.timeout(30):
            async for seen in catalogs:
                if wanted(seen):
                    return seen
    except TimeoutError:
        pytest.fail(f"the last catalog was {seen}")


def call(server, method, path, body=None):
    """One request to Consul's API as its administrator."""
    request = urllib.request.Request(
        f"http://{server.endpoint}{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"X-Consul-Token": ROOT},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        text = answer.read()
    return json.loads(text) if text.strip() else None


def service_of(number, **changes):
    """A service of its own for each test of a shared Consul, with one instance."""
    name = ServiceName("default", f"bad-day-{number}")
    return name, replace(ENDPOINT, id=f"h-{number}", service=name, **changes)


# --- outages --------------------------------------------------------------------------------


async def test_a_consul_that_is_not_there_is_said_so():
    (port,) = free_ports(1)
    settings = ConsulSettings(address=f"127.0.0.1:{port}")
    discovery = ConsulDiscovery(settings, clock=SystemClock())
    async with watched(discovery, API, names=True) as catalogs:
        catalog = await until(catalogs, lambda one: one.stale)
        assert f"http://127.0.0.1:{port}" in catalog.stale
        assert catalog.endpoints == {API: ()}
        with pytest.raises(Unavailable, match="cannot be reached"):
            await discovery.register(ENDPOINT, ttl=LONG)
        with pytest.raises(Unavailable):
            await discovery.deregister(ENDPOINT)


async def test_a_consul_that_comes_back_empty_is_not_believed_at_once(tmp_path):
    with consul(tmp_path) as server:
        discovery = connect(server)
        async with watched(discovery, API, names=True) as found:
            await discovery.register(ENDPOINT, ttl=LONG)
            full = await until(found, lambda one: one.endpoints[API] and one.names)
            server.kill()
            lost = await until(found, lambda one: one.stale)
            assert lost.endpoints == full.endpoints
            assert lost.names == full.names

            # In development mode its state died with it.
            server.start()
            await asyncio.to_thread(server.wait_ready)
            held = await until(found, lambda one: one.stale and "vanished" in one.stale)
            assert held.endpoints == full.endpoints
            assert held.names == full.names

            await discovery.register(replace(ENDPOINT, port=2), ttl=LONG)
            back = await until(found, lambda one: one.stale is None)
            assert [one.port for one in back.endpoints[API]] == [2]


async def test_a_catalog_that_was_built_anew_is_told_by_its_nodes(tmp_path):
    async def host(server):
        settings = ConsulSettings(address=server.endpoint)
        name = f"test-{server.endpoint.rpartition(':')[2]}"
        index, found = None, None
        client = Client(settings)
        client.open()
        assert shapes.node((await client.query(path("catalog/node", "nobody")))[1]) is None
        while found is None:  # the server writes itself down soon after its election
            wait = timedelta(seconds=10)
            index, answer = await client.query(path("catalog/node", name), index, wait)
            found = shapes.node(answer)
        return found

    with consul(tmp_path) as server:
        before = await host(server)
        assert await host(server) == before
        server.kill()
        server.start()
        await asyncio.to_thread(server.wait_ready)
        assert await host(server) != before


async def test_a_frozen_consul_is_noticed_by_a_renewal(tmp_path):
    with consul(tmp_path) as server:
        async with connect(server, timeout=SHORT) as discovery:
            await discovery.register(ENDPOINT, ttl=LONG)
            server.signal(signal.SIGSTOP)
            with pytest.raises(Unavailable, match="no answer in time"):
                await discovery.register(ENDPOINT, ttl=LONG)
            server.signal(signal.SIGCONT)
            await discovery.register(ENDPOINT, ttl=LONG)


# --- what others do to Consul ---------------------------------------------------------------


async def test_registrations_by_others_are_passed_over(plain):
    service, endpoint = service_of(1)
    call(plain, "PUT", "/v1/agent/service/register", {"Name": service.name, "Port": 9})
    discovery = connect(plain)
    async with watched(discovery, service, names=True) as catalogs:
        first = await until(catalogs, lambda _: True)
        assert first.endpoints[service] == ()
        assert service not in first.names
        await discovery.register(endpoint, ttl=LONG)
        await until(catalogs, lambda one: len(one.endpoints[service]) == 1)


async def test_a_check_of_the_operator_takes_an_instance_out(plain):
    service, endpoint = service_of(2)
    discovery = connect(plain)
    async with watched(discovery, service) as catalogs:
        await discovery.register(endpoint, ttl=LONG)
        await until(catalogs, lambda one: one.endpoints[service])
        path = f"/v1/agent/service/maintenance/{endpoint.id}?enable="
        call(plain, "PUT", path + "true")
        await until(catalogs, lambda one: one.endpoints[service][0].health is Health.UNHEALTHY)
        call(plain, "PUT", path + "false")
        await until(catalogs, lambda one: one.endpoints[service][0].health is Health.HEALTHY)


async def test_others_see_the_check_fail_while_an_instance_is_unhealthy(plain):
    _, endpoint = service_of(3)
    async with connect(plain) as discovery:
        await discovery.register(endpoint, ttl=LONG)
        assert _statuses(plain, endpoint) == ["passing"]
        await discovery.register(replace(endpoint, health=Health.UNHEALTHY), ttl=LONG)
        assert _statuses(plain, endpoint) == ["critical"]
        await discovery.register(endpoint, ttl=LONG)
        assert _statuses(plain, endpoint) == ["passing"]


def _statuses(server, endpoint):
    checks = call(server, "GET", "/v1/agent/checks").values()
    return [one["Status"] for one in checks if one["ServiceID"] == endpoint.id]


async def test_a_registration_is_what_the_documentation_says(plain):
    service, endpoint = service_of(4, meta={"version": "v1"}, tags=frozenset({"blue"}))
    async with connect(plain) as discovery:
        await discovery.register(endpoint, ttl=LONG)
        (found,) = call(plain, "GET", f"/v1/catalog/service/{service.name}")
        assert found["ServiceMeta"] == {
            "version": "v1",
            "mesh-namespace": "default",
            "mesh-id": endpoint.id,
            "mesh-health": "healthy",
        }
        assert found["ServiceTags"] == ["mesh-namespace=default", "blue"]
        assert (found["ServiceAddress"], found["ServicePort"]) == ("192.0.2.1", 1)


# --- refusals -------------------------------------------------------------------------------


async def test_meta_data_that_is_the_meshs_own_is_refused(plain):
    async with connect(plain) as discovery:
        with pytest.raises(InputError, match='"mesh-id"'):
            await discovery.register(replace(ENDPOINT, meta={"mesh-id": "x"}), ttl=LONG)


async def test_meta_data_that_consul_refuses_is_refused_with_its_words(plain):
    async with connect(plain) as discovery:
        with pytest.raises(InputError, match="invalid characters"):
            await discovery.register(replace(ENDPOINT, meta={"a b": "x"}), ttl=LONG)


@pytest.mark.parametrize("address", ["", "8500", "localhost", "localhost:http", ":1"])
async def test_an_address_without_host_or_port_is_refused(address):
    with pytest.raises(UsageError, match="host:port"):
        await ConsulDiscovery(ConsulSettings(address=address), clock=SystemClock()).__aenter__()


async def test_files_that_are_not_there_are_named(tmp_path):
    missing = tmp_path / "missing"
    for settings in (
        ConsulSettings(token_file=missing),
        ConsulSettings(scheme="https", cacert=missing),
        ConsulSettings(scheme="https", cert=missing, key=missing),
    ):
        with pytest.raises(UsageError, match="cannot be"):
            await ConsulDiscovery(settings, clock=SystemClock()).__aenter__()


# --- rights ---------------------------------------------------------------------------------

_RULES = 'service_prefix "" { policy = "write" } node_prefix "" { policy = "read" }'


class Token:
    """A token with a policy of its own, to be taken away under a running client."""

    def __init__(self, server, name, rules=_RULES):
        self._server, self._name = server, name
        self._policy = call(server, "PUT", "/v1/acl/policy", {"Name": name, "Rules": rules})["ID"]
        made = call(server, "PUT", "/v1/acl/token", {"Policies": [{"ID": self._policy}]})
        self._accessor, self.secret = made["AccessorID"], made["SecretID"]

    def allow(self, rules):
        path = f"/v1/acl/policy/{self._policy}"
        call(self._server, "PUT", path, {"Name": self._name, "Rules": rules})

    def delete(self):
        call(self._server, "DELETE", f"/v1/acl/token/{self._accessor}")


async def test_without_a_token_everything_is_denied(guarded, monkeypatch):
    # Consul's own command line would take this one.
    monkeypatch.setenv("CONSUL_HTTP_TOKEN", ROOT)
    service, endpoint = service_of(5)
    discovery = connect(guarded)
    async with watched(discovery, service) as catalogs:
        catalog = await until(catalogs, lambda _: True)
        assert "lacks service:read" in catalog.stale
        with pytest.raises(Denied, match="Permission denied"):
            await discovery.register(endpoint, ttl=LONG)


async def test_the_environment_does_not_override_the_token(guarded, monkeypatch):
    monkeypatch.setenv("CONSUL_HTTP_TOKEN", "another-token")
    monkeypatch.setenv("CONSUL_HTTP_ADDR", "http://192.0.2.1:1")
    monkeypatch.setenv("CONSUL_HTTP_SSL", "true")
    service, endpoint = service_of(6)
    discovery = connect(guarded, token=ROOT)
    async with watched(discovery, service) as catalogs:
        await discovery.register(endpoint, ttl=LONG)
        catalog = await until(catalogs, lambda one: one.endpoints[service])
        assert catalog.stale is None


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ('node_prefix "" { policy = "read" }', "service:read"),
        ('service_prefix "" { policy = "write" }', "node:read"),
    ],
)
async def test_rights_that_are_taken_away_empty_nothing(guarded, rules, message):
    service, endpoint = service_of(7 if "service:" in message else 8)
    token = Token(guarded, service.name)
    discovery = connect(guarded, token=token.secret)
    async with watched(discovery, service, names=True) as catalogs:
        await discovery.register(endpoint, ttl=LONG)
        full = await until(catalogs, lambda one: one.endpoints[service] and one.names)
        token.allow(rules)
        # The policy alone wakes no query: another instance of the service does.
        twin = {**_body(endpoint), "ID": endpoint.id + "-twin"}
        call(guarded, "PUT", "/v1/agent/service/register", twin)
        lost = await until(catalogs, lambda one: one.stale)
        assert message in lost.stale
        assert lost.endpoints == full.endpoints
        token.allow(_RULES)
        await until(catalogs, lambda one: one.stale is None)


def _body(endpoint):
    return {
        "Name": endpoint.service.name,
        "ID": endpoint.id,
        "Port": 1,
        "Meta": {"mesh-namespace": "default", "mesh-id": "twin"},
    }


async def test_a_deleted_token_is_denied_and_read_again_from_its_file(guarded, tmp_path):
    service, endpoint = service_of(9)
    old = Token(guarded, f"{service.name}-old")
    new = Token(guarded, f"{service.name}-new")
    file = tmp_path / "token"
    file.write_text(old.secret + "\n")
    discovery = connect(guarded, token_file=file)
    async with watched(discovery, service) as catalogs:
        await discovery.register(endpoint, ttl=LONG)
        await until(catalogs, lambda one: one.endpoints[service])
        old.delete()
        with pytest.raises(Denied, match="ACL not found"):
            await discovery.register(endpoint, ttl=LONG)
        file.write_text(new.secret + "\n")
        # The agent told its servers of the instance by the old token: all is said anew.
        await discovery.register(replace(endpoint, port=2), ttl=LONG)
        await until(catalogs, lambda one: one.endpoints[service][0].port == 2)


async def test_a_token_is_in_no_repr():
    assert "secret" not in repr(ConsulSettings(token="secret"))


# --- TLS ------------------------------------------------------------------------------------


async def test_tls_with_client_certificates(tmp_path):
    authority = Authority(tmp_path / "ca")
    served = authority.issue("server", "127.0.0.1")
    client = authority.issue("client", "127.0.0.1")
    stranger = Authority(tmp_path / "other")
    (port,) = free_ports(1)
    extra = ["-hcl", f"ports {{ https = {port} }}"]
    extra += ["-hcl", f'ca_file = "{served.ca}" verify_incoming = true']
    extra += ["-hcl", f'cert_file = "{served.cert}" key_file = "{served.key}"']
    good = ConsulSettings(
        address=f"127.0.0.1:{port}",
        scheme="https",
        cacert=authority.file,
        cert=client.cert,
        key=client.key,
    )
    with consul(tmp_path, extra=extra):
        async with ConsulDiscovery(good, clock=SystemClock()) as discovery:
            await discovery.register(ENDPOINT, ttl=LONG)
        for bad in (replace(good, cacert=stranger.file), replace(good, cert=None, key=None)):
            async with ConsulDiscovery(bad, clock=SystemClock()) as discovery:
                with pytest.raises(Unavailable, match=f"https://127.0.0.1:{port}"):
                    await discovery.register(ENDPOINT, ttl=LONG)


# --- many -----------------------------------------------------------------------------------


async def test_renewals_do_not_wait_for_queries(plain):
    services = [ServiceName("default", f"many-{number}") for number in range(100)]
    discovery = connect(plain)
    async with watched(discovery, *services) as catalogs:
        await until(catalogs, lambda one: one.stale is None)
        endpoint = replace(ENDPOINT, id="many", service=services[99])
        async with asyncio.timeout(2):
            await discovery.register(endpoint, ttl=LONG)
            await discovery.register(endpoint, ttl=LONG)
        await until(catalogs, lambda one: one.endpoints[services[99]])
        await discovery.deregister(endpoint)
        await until(catalogs, lambda one: not one.endpoints[services[99]])
