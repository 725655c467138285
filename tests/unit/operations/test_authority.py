"""What readers of the store make of the certificate authority's service."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from mesh.ca.service import ServiceStatus, write_status
from mesh.operations.authority import ServedAuthority, check_served, served
from mesh.operations.doctor import Level
from mesh.planning import keyspace
from mesh.ports import Entry

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
STATUS = ServiceStatus(
    url="https://ca.example.org:8443?fingerprint=sha256:00",
    version="1.2.3",
    trust_domain="mesh.local",
    roots=("sha256:00",),
    not_after={
        "root": NOW + timedelta(days=3000),
        "intermediate": NOW + timedelta(days=300),
        "server": NOW + timedelta(hours=20),
    },
)


def entries(*, is_alive: bool = True, status: bytes | None = None) -> dict[str, Entry]:
    found = {keyspace.CA_STATUS: write_status(STATUS) if status is None else status}
    if is_alive:
        found[keyspace.CA_ALIVE] = b"1"
    return {key: Entry(key, value, 1) for key, value in found.items()}


def test_the_service_lives_as_long_as_its_lease() -> None:
    assert served(entries()) == ServedAuthority(STATUS, True)
    assert served(entries(is_alive=False)) == ServedAuthority(STATUS, False)


def test_without_a_service_or_with_one_of_another_version_there_is_nothing_to_say() -> None:
    assert served({}) is None
    assert served(entries(status=b'{"version": 2}')) is None
    assert list(check_served(None, NOW)) == []


def check(found: ServedAuthority) -> list[tuple[Level, str]]:
    return [(item.level, item.message) for item in check_served(found, NOW)]


def test_a_service_that_serves_is_fine() -> None:
    expected = [(Level.OK, 'https://ca.example.org:8443 serves "mesh.local"')]
    assert check(ServedAuthority(STATUS, True)) == expected


def test_a_service_that_is_gone_is_an_error() -> None:
    ((level, message),) = check(ServedAuthority(STATUS, False))
    assert level is Level.ERROR
    assert "is not there" in message


@pytest.mark.parametrize(
    ("certificate", "left", "level"),
    [
        ("server", timedelta(hours=5), Level.WARNING),
        ("server", timedelta(), Level.ERROR),
        ("intermediate", timedelta(), Level.ERROR),
        ("root", timedelta(seconds=-1), Level.ERROR),
    ],
)
def test_its_own_certificates_are_looked_at(
    certificate: str, left: timedelta, level: Level
) -> None:
    not_after = {**STATUS.not_after, certificate: NOW + left}
    worst, fine = check(ServedAuthority(replace(STATUS, not_after=not_after), True))
    assert worst[0] is level
    assert f"its {certificate} certificate" in worst[1]
    assert fine[0] is Level.OK
