import socket
from pathlib import Path

import pytest

from mesh.errors import PortInUse
from mesh.model.identity import ServiceName
from mesh.model.policy import Address
from mesh.sidecar.addresses import FREE_PORTS, Addresses, advertised

LEDGER = ServiceName("shop", "ledger")
MAIL = ServiceName("shop", "mail")
ANY = Address("127.0.0.1", 0)


def _place(tmp_path: Path, id: str = "one") -> Path:
    place = tmp_path / id
    place.mkdir(exist_ok=True)
    return place


def test_a_free_port_is_kept_over_restarts(tmp_path: Path) -> None:
    first = Addresses(_place(tmp_path))
    inbound, outbound = first.inbound(ANY), first.outbound(ANY)
    assert inbound != outbound
    assert {inbound.port, outbound.port} <= set(FREE_PORTS)
    again = Addresses(_place(tmp_path))
    assert (again.outbound(ANY), again.inbound(ANY)) == (outbound, inbound)


def test_a_kept_port_that_somebody_took_is_replaced(tmp_path: Path) -> None:
    first = Addresses(_place(tmp_path)).outbound(ANY)
    with socket.create_server((first.address, first.port)):
        assert Addresses(_place(tmp_path)).outbound(ANY) != first


def test_a_kept_port_stays_when_the_sidecars_own_envoy_holds_it(tmp_path: Path) -> None:
    first = Addresses(_place(tmp_path)).outbound(ANY)
    with socket.create_server((first.address, first.port)):
        assert Addresses(_place(tmp_path), held=True).outbound(ANY) == first
        assert Addresses(_place(tmp_path), held=True).outbound(first) == first


def test_a_port_in_use_is_refused_with_its_number_and_flag(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        addresses = Addresses(_place(tmp_path), held=True)
        with pytest.raises(PortInUse, match=rf"127\.0\.0\.1:{port} .*--inbound"):
            addresses.inbound(Address("127.0.0.1", port))
        with pytest.raises(PortInUse, match=rf":{port} .*--outbound"):
            addresses.outbound(Address("0.0.0.0", port))
        with pytest.raises(PortInUse, match=rf":{port} .*--upstream"):
            addresses.check_pins({LEDGER: Address("127.0.0.1", port)})


def test_upstreams_are_pinned_or_kept(tmp_path: Path) -> None:
    pins = {MAIL: Address("127.0.0.1", 25)}
    first = Addresses(_place(tmp_path)).upstreams([MAIL, LEDGER], pins)
    assert first[MAIL] == pins[MAIL]
    assert list(first) == [LEDGER, MAIL]
    again = Addresses(_place(tmp_path))
    assert again.upstreams([MAIL], pins) == {MAIL: pins[MAIL]}
    assert again.upstreams([LEDGER], {})[LEDGER] == first[LEDGER]


def test_sidecars_of_one_state_folder_never_share_a_port(tmp_path: Path) -> None:
    chosen = [
        address
        for n in range(20)
        for address in Addresses(_place(tmp_path, f"{n}")).upstreams([LEDGER, MAIL], {}).values()
    ]
    assert len(set(chosen)) == 40


def test_a_damaged_file_means_new_choices_and_no_failure(tmp_path: Path) -> None:
    first = Addresses(_place(tmp_path)).outbound(ANY)
    (tmp_path / "one" / "addresses.json").write_text("{")
    assert Addresses(_place(tmp_path)).outbound(ANY) == first  # the path decides where to begin


def test_what_callers_are_told() -> None:
    assert advertised(Address("127.0.0.1", 1), None) == "127.0.0.1"
    assert advertised(Address("0.0.0.0", 1), "192.0.2.9") == "192.0.2.9"
    assert advertised(Address("0.0.0.0", 1), None) not in {"0.0.0.0", ""}
