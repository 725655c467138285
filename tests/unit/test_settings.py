"""Flags win over the environment, which wins over mesh.toml."""

from pathlib import Path

import pytest

from mesh.errors import UsageError
from mesh.settings import (
    AuthorityService,
    ConsulDiscovery,
    EtcdStore,
    Settings,
    SQLiteStore,
    read_settings,
    unknown_variables,
)

PIN = "sha256:" + "0af1" * 16


def read(tmp_path: Path, environment: dict[str, str] | None = None, **flags: str) -> Settings:
    given = {"MESH_STATE": str(tmp_path / "state")} | (environment or {})
    return read_settings(flags, given, folder=tmp_path)


def test_with_nothing_set_everything_is_in_the_users_state(tmp_path: Path):
    found = read_settings({}, {"XDG_STATE_HOME": str(tmp_path)}, folder=tmp_path)
    assert found.store == SQLiteStore(found.state / "mesh.db")
    assert found.discovery is None
    assert found.ca == found.state / "ca"


def test_flags_win_over_the_environment_over_the_file(tmp_path: Path):
    (tmp_path / "mesh.toml").write_text('store = "sqlite:////file.db"\n')
    folder = tmp_path / "below"
    folder.mkdir()

    def store(environment: dict[str, str], **flags: str) -> object:
        return read_settings(flags, environment, folder=folder).store

    assert store({}) == SQLiteStore(Path("/file.db"))
    assert store({"MESH_STORE": "sqlite:///env.db"}) == SQLiteStore(Path("/env.db"))
    assert store({"MESH_STORE": "sqlite:///env.db"}, store="sqlite:///flag.db") == SQLiteStore(
        Path("/flag.db")
    )


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///a/b.db", "/a/b.db"),
        ("sqlite:////a/b.db", "/a/b.db"),
        ("sqlite:///a%20b.db", "/a b.db"),
    ],
)
def test_a_sqlite_path_of_three_or_four_slashes_is_absolute(tmp_path: Path, url: str, path: str):
    assert read(tmp_path, store=url).store == SQLiteStore(Path(path))


def test_a_sqlite_path_without_slashes_is_relative(tmp_path: Path):
    assert read(tmp_path, store="sqlite:mesh.db").store == SQLiteStore(Path.cwd() / "mesh.db")


def test_etcd_has_endpoints_a_prefix_and_files(tmp_path: Path):
    url = "etcd://h1:1,h2,[::1]:3/shop/live?cacert=/ca.pem&cert=/c.pem&key=/k.pem"
    assert read(tmp_path, store=url).store == EtcdStore(
        endpoints=("h1:1", "h2:2379", "[::1]:3"),
        prefix="shop/live",
        cacert=Path("/ca.pem"),
        cert=Path("/c.pem"),
        key=Path("/k.pem"),
    )


def test_consul_has_a_port_and_options(tmp_path: Path):
    url = "consul://consul.local?token_file=/token&datacenter=dc2"
    assert read(tmp_path, discovery=url).discovery == ConsulDiscovery(
        host="consul.local", port=8500, token_file=Path("/token"), datacenter="dc2"
    )


@pytest.mark.parametrize(
    ("name", "value", "message", "hint"),
    [
        ("store", "etdc://h", "unknown scheme", '"etcd"'),
        ("store", "mesh.db", "unknown scheme", "sqlite"),
        ("store", "sqlite://", "names no file", "sqlite:///"),
        ("store", "sqlite://host/a.db", "names no file", "sqlite:///"),
        ("store", "etcd://h?cacrt=x", '"cacrt"', '"cacert"'),
        ("store", "etcd://h?cacert=", "empty", ""),
        ("store", "etcd://h?cert=/c", '"cert" and "key"', "both"),
        ("store", "etcd://", "no host and port", "HOST"),
        ("store", "etcd://h:port", "no host and port", ""),
        ("store", "etcd://u:p@h", "no host and port", ""),
        ("discovery", "consul://h?tokenfile=x", '"tokenfile"', '"token_file"'),
        ("discovery", "dns:", "unknown scheme", "store"),
        ("ca", "https://ca:8443", "neither a fingerprint nor a file", "?fingerprint="),
        ("ca", f"https://ca?fingerprint={PIN}&cacert=f", "both a fingerprint and a file", ""),
        ("ca", "https://ca?fingerprint=sha256:12", "no fingerprint", "64 hexadecimal"),
        ("ca", f"https://ca/mesh?fingerprint={PIN}", "has a path", "https://HOST"),
        ("ca", f"https://ca?fingrprint={PIN}", '"fingrprint"', '"fingerprint"'),
        ("ca", f"https://?fingerprint={PIN}", "no host and port", "HOST"),
        ("ca", "file:", "unknown scheme", "local"),
    ],
)
def test_a_wrong_setting_is_refused_with_what_is_right(tmp_path: Path, name, value, message, hint):
    with pytest.raises(UsageError) as caught:
        read(tmp_path, **{name: value})
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_an_authority_is_known_by_fingerprints_or_by_a_file(tmp_path: Path):
    pinned = read(tmp_path, ca=f"https://ca.example.org?fingerprint={PIN.upper()},{PIN}").authority
    assert pinned == AuthorityService("ca.example.org", 8443, (PIN, PIN))
    filed = read(tmp_path, ca="https://[::1]:9443/?cacert=/etc/mesh/ca.pem").authority
    assert filed == AuthorityService("[::1]", 9443, cacert=Path("/etc/mesh/ca.pem"))
    assert read(tmp_path, ca="local:").authority is None


def test_relative_paths_in_the_file_are_relative_to_it(tmp_path: Path):
    (tmp_path / "mesh.toml").write_text(
        "store = 'sqlite:mesh.db'\nca = 'https://ca?cacert=ca.pem'\ntoken_file = 'web.token'\n"
        "discovery = 'consul://c?token_file=consul.token'\n"
    )
    found = read_settings({}, {}, folder=tmp_path / "below")
    assert found.store == SQLiteStore(tmp_path / "mesh.db")
    assert found.authority is not None
    assert found.authority.cacert == tmp_path / "ca.pem"
    assert found.token_file == tmp_path / "web.token"
    assert found.discovery is not None
    assert found.discovery.token_file == tmp_path / "consul.token"
    given = read_settings({"store": "sqlite:other.db"}, {}, folder=tmp_path / "below")
    assert given.store == SQLiteStore(Path.cwd() / "other.db")


def test_the_join_token_is_named_by_the_environment(tmp_path: Path):
    found = read_settings({}, {"MESH_TOKEN_FILE": "/run/web.token"}, folder=tmp_path)
    assert found.token_file == Path("/run/web.token")
    assert found.sources["token_file"] == "MESH_TOKEN_FILE"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stroe = 'x'", '"stroe"'),
        ("store = 1", "must be text"),
        ("store = ", "not valid TOML"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str, message: str):
    (tmp_path / "mesh.toml").write_text(text)
    with pytest.raises(UsageError) as caught:
        read(tmp_path)
    assert message in caught.value.message


def test_a_state_folder_in_the_file_is_relative_to_it(tmp_path: Path):
    (tmp_path / "mesh.toml").write_text('state = "state"\n')
    folder = tmp_path / "below"
    folder.mkdir()
    assert read_settings({}, {}, folder=folder).state == tmp_path / "state"


def test_a_variable_that_is_no_setting_is_found_with_the_nearest_one():
    found = unknown_variables(
        {"MESH_STROE": "x", "MESH_SOMETHING_ELSE": "x", "PATH": "x", "MESH_STORE": "x"}
    )
    assert found["MESH_STROE"] == 'did you mean "MESH_STORE"?'
    assert "MESH_TOKEN_FILE" in found["MESH_SOMETHING_ELSE"]
    assert len(found) == 2


@pytest.mark.parametrize(
    "name",
    [
        "MESH_OUTBOUND",
        "MESH_UPSTREAM_LEDGER_SHOP",
        "MESH_TEST_ETCD",
        "MESH_REQUIRE_DOCKER",
        "MESH_BENCH_CHANGES",
        "MESH_FAULT_SECONDS",
        "MESH_FLEET_STORM",
        "MESH_SIDECAR_ARGS",
        "MESH_ETCD_IMAGE",
    ],
)
def test_variables_of_others_are_left_alone(name: str):
    assert unknown_variables({name: "x"}) == {}
