"""A sidecar's flags, parsed or refused by name."""

from datetime import timedelta
from pathlib import Path

import pytest

from mesh.cli.sidecar_options import Given, address, upstream
from mesh.errors import UsageError
from mesh.model.identity import ServiceName
from mesh.model.policy import Address
from mesh.sidecar.options import INBOUND, OUTBOUND

STATE = Path("/state")


def given(**changes: object) -> Given:
    values: dict[str, object] = {
        "service": "api",
        "namespace": "default",
        "app": None,
        "inbound": None,
        "outbound": None,
        "meta": (),
        "tags": (),
        "id": None,
        "upstreams": (),
        "advertise": None,
    }
    return Given(**(values | changes))  # type: ignore[arg-type]


def test_without_flags_it_is_a_caller_on_the_default_ports():
    options = given().options(STATE)
    assert options.service == ServiceName("default", "api")
    assert options.app is None
    assert (options.inbound, options.outbound) == (INBOUND, OUTBOUND)


def test_every_flag_arrives():
    options = given(
        app="127.0.0.1:8080",
        inbound="0.0.0.0:0",
        outbound="[::1]:1",
        meta=("version=v1", "a=b=c"),
        tags=("x", "y"),
        id="h1-api.1",
        upstreams=("ledger.shop=5432", "db=127.0.0.9:0"),
        advertise="192.0.2.7",
        drain="1m30s",
    ).options(STATE)
    assert options.app == Address("127.0.0.1", 8080)
    assert options.outbound == Address("::1", 1)
    assert options.meta == {"version": "v1", "a": "b=c"}
    assert options.tags == {"x", "y"}
    assert options.upstreams == {
        ServiceName("shop", "ledger"): Address("127.0.0.1", 5432),
        ServiceName("default", "db"): Address("127.0.0.9", 0),
    }
    assert options.advertise == "192.0.2.7"
    assert options.drain == timedelta(seconds=90)


@pytest.mark.parametrize("text", ["", "8", "8s ", "-1s", "1d", "1s1s1s1s1s"])
def test_a_drain_that_is_no_duration_is_refused(text: str):
    with pytest.raises(UsageError, match="--drain"):
        given(drain=text).options(STATE)


def test_a_hosts_name_is_looked_up_and_ipv4_comes_first():
    assert address("localhost:80", "--app") == Address("127.0.0.1", 80)


@pytest.mark.parametrize(
    ("changes", "flag"),
    [
        ({"service": "Api"}, "--service"),
        ({"service": ""}, "--service"),
        ({"service": "a" * 64}, "--service"),
        ({"namespace": "-"}, "--namespace"),
        ({"app": "8080"}, "--app"),
        ({"app": "127.0.0.1:0"}, "--app"),
        ({"app": "127.0.0.1:http"}, "--app"),
        ({"app": "127.0.0.1:65536"}, "--app"),
        ({"inbound": ":80"}, "--inbound"),
        ({"outbound": "nowhere.invalid:80"}, "--outbound"),
        ({"meta": ("version",)}, "--meta"),
        ({"meta": ("=v1",)}, "--meta"),
        ({"id": "../x"}, "--id"),
        ({"id": ""}, "--id"),
        ({"upstreams": ("ledger",)}, "--upstream"),
        ({"upstreams": ("Ledger=1",)}, "--upstream"),
        ({"upstreams": ("ledger=x",)}, "--upstream"),
        ({"advertise": "nowhere.invalid"}, "--advertise"),
    ],
)
def test_a_wrong_flag_is_refused_by_name(changes: dict[str, object], flag: str):
    with pytest.raises(UsageError) as caught:
        given(**changes).options(STATE)
    assert caught.value.message.startswith(f"{flag}:")


@pytest.mark.parametrize(
    "changes",
    [
        {"app": "127.0.0.1:80", "inbound": "0.0.0.0:80"},
        {"app": "127.0.0.1:80", "outbound": "127.0.0.1:80"},
        {"outbound": "127.0.0.1:80", "metrics": "[::]:80"},
        {"outbound": "127.0.0.1:80", "upstreams": ("db=80",)},
    ],
)
def test_two_flags_with_one_address_are_refused(changes: dict[str, object]):
    with pytest.raises(UsageError, match="have one address, port 80"):
        given(**changes).options(STATE)


def test_a_port_may_serve_on_several_addresses():
    options = given(app="127.0.0.1:80", inbound="192.0.2.1:80").options(STATE)
    assert options.inbound == Address("192.0.2.1", 80)


def test_an_upstream_without_a_namespace_is_in_the_sidecars_own():
    assert upstream("db=1", "shop")[0] == ServiceName("shop", "db")
