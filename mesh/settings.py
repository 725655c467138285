"""Where the mesh is: flags, then `MESH_*`, then `mesh.toml`; read once, immutable.

The stores, registries and authorities are named by URLs. A wrong one is a UsageError that names
the setting, where it came from and the nearest valid word.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from mesh.errors import UsageError

FILE: Final = "mesh.toml"
NAMES: Final = ("store", "discovery", "ca", "state", "token_file")
ETCD_PORT: Final = 2379
CA_PORT: Final = 8443
CONSUL_PORT: Final = 8500

# What begins with MESH_ as well: what `run` tells its command, what an agent passes on, what units
# and images are set up with, switches of the project's own tests.
_NO_SETTING = re.compile(
    r"MESH_(OUTBOUND|AGENT|SUCCESSOR_OF|PACKAGE|IMAGE|\w+_(ARGS|IMAGE|PORT)"
    r"|(UPSTREAM|TEST|REQUIRE|BENCH|FAULT|FLEET)_\w+)",
    re.ASCII,
)
_ETCD_KEYS = ("cacert", "cert", "key")
_CA_KEYS = ("fingerprint", "cacert")
_FINGERPRINT = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
_CONSUL_KEYS = ("token_file", "datacenter", "cacert", "cert", "key")


@dataclass(frozen=True, slots=True)
class SQLiteStore:
    """A file of this host."""

    path: Path


@dataclass(frozen=True, slots=True)
class EtcdStore:
    """An etcd cluster; `endpoints` are `host:port`. TLS where `cacert` is given."""

    endpoints: tuple[str, ...]
    prefix: str
    cacert: Path | None = None
    cert: Path | None = None
    key: Path | None = None


@dataclass(frozen=True, slots=True)
class ConsulDiscovery:
    """A Consul agent. TLS where `cacert` is given."""

    host: str
    port: int
    token_file: Path | None = None
    datacenter: str | None = None
    cacert: Path | None = None
    cert: Path | None = None
    key: Path | None = None


@dataclass(frozen=True, slots=True)
class AuthorityService:
    """A certificate authority on another host, known by the fingerprints of its roots (`sha256:`
    and hexadecimal, of the certificate's DER form) or by a file of them.
    """

    host: str
    port: int
    fingerprints: tuple[str, ...] = ()
    cacert: Path | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """`discovery is None`: in the store; `authority is None`: the local one. `token_file` has the
    join token for the authority. `sources` says for each setting where it came from.
    """

    state: Path
    store: SQLiteStore | EtcdStore
    discovery: ConsulDiscovery | None = None
    authority: AuthorityService | None = None
    token_file: Path | None = None
    sources: Mapping[str, str] = field(default_factory=dict)

    @property
    def ca(self) -> Path:
        """The folder of the local certificate authority."""
        return self.state / "ca"


def read_settings(
    flags: Mapping[str, str | None],
    environment: Mapping[str, str],
    config: Path | None = None,
    folder: Path | None = None,
) -> Settings:
    """Settings from `flags` (by name), the environment and `mesh.toml`, found upwards from
    `folder` (the working directory) unless `config` names it. Relative paths in the file are
    relative to its folder, others to the working directory.

    Raises:
        UsageError: a setting is wrong, or `config` cannot be read.
    """
    file = config or _find(folder or Path.cwd())
    values, sources = _gather(flags, environment, file)

    def base(name: str) -> Path:
        """What a relative path in this setting is relative to."""
        return file.parent if file and sources.get(name) == str(file) else Path.cwd()

    given = Path(values["state"]).expanduser() if "state" in values else None
    state = base("state") / (given or _default_state(environment))
    token_file = Path(values["token_file"]).expanduser() if "token_file" in values else None
    return Settings(
        state=state,
        store=_store(values.get("store"), state, base("store")),
        discovery=_discovery(values.get("discovery", "store:"), base("discovery")),
        authority=_authority(values.get("ca", "local:"), base("ca")),
        token_file=token_file and base("token_file") / token_file,
        sources=sources,
    )


def unknown_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that look like settings and are none, each with what to do about it."""
    known = tuple(f"MESH_{name.upper()}" for name in NAMES)
    return {
        name: _nearest(name, known)
        for name in sorted(environment)
        if name.startswith("MESH_") and name not in known and not _NO_SETTING.fullmatch(name)
    }


def _gather(
    flags: Mapping[str, str | None], environment: Mapping[str, str], file: Path | None
) -> tuple[dict[str, str], dict[str, str]]:
    """The given values, and where each came from."""
    configured = _read_file(file) if file else {}
    values, sources = {}, {}
    for name in NAMES:
        for value, source in (
            (flags.get(name), f"--{name}"),
            (environment.get(f"MESH_{name.upper()}"), f"MESH_{name.upper()}"),
            (configured.get(name), str(file)),
        ):
            if value:
                values[name], sources[name] = value, source
                break
    return values, sources


def _find(folder: Path) -> Path | None:
    for candidate in (folder, *folder.parents):
        if (candidate / FILE).is_file():
            return candidate / FILE
    return None


def _read_file(file: Path) -> dict[str, str]:
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f'"{file}" cannot be read: {error.strerror}', "see --config") from error
    except ValueError as error:
        raise UsageError(f'"{file}" is not valid TOML: {error}') from error
    for name, value in content.items():
        if name not in NAMES:
            raise UsageError(f'"{name}" in "{file}" is no setting', _nearest(name, NAMES))
        if not isinstance(value, str):
            raise UsageError(f'"{name}" in "{file}" must be text', f'{name} = "..."')
    return content


def _default_state(environment: Mapping[str, str]) -> Path:
    if os.geteuid() == 0:
        return Path("/var/lib/mesh")
    home = environment.get("XDG_STATE_HOME")
    return Path(home) / "mesh" if home else Path.home() / ".local" / "state" / "mesh"


def _store(text: str | None, state: Path, base: Path) -> SQLiteStore | EtcdStore:
    if text is None:
        return SQLiteStore(state / "mesh.db")
    url = _split("store", text, ("sqlite", "etcd"))
    if url.scheme == "etcd":
        return _etcd(url, text, base)
    _query("store", url, ())
    path = unquote(url.path)
    if url.netloc or not path.strip("/"):
        raise UsageError(
            f'the store "{text}" names no file', "write sqlite:///absolute/path or sqlite:relative"
        )
    absolute = path.startswith("/")
    return SQLiteStore(Path("/" + path.lstrip("/")) if absolute else base / path)


def _etcd(url: SplitResult, text: str, base: Path) -> EtcdStore:
    query = _query("store", url, _ETCD_KEYS)
    endpoints = tuple(_endpoint(text, part, ETCD_PORT) for part in url.netloc.split(","))
    if ("cert" in query) != ("key" in query):
        raise UsageError(f'the store "{text}" has one of "cert" and "key"', "give both")
    return EtcdStore(
        endpoints=tuple(f"{host}:{port}" for host, port in endpoints),
        prefix=unquote(url.path).strip("/"),
        cacert=_path(query, "cacert", base),
        cert=_path(query, "cert", base),
        key=_path(query, "key", base),
    )


def _discovery(text: str, base: Path) -> ConsulDiscovery | None:
    url = _split("discovery", text, ("store", "consul"))
    if url.scheme == "store":
        return None
    query = _query("discovery", url, _CONSUL_KEYS)
    host, port = _endpoint(text, url.netloc, CONSUL_PORT)
    return ConsulDiscovery(
        host=host,
        port=port,
        token_file=_path(query, "token_file", base),
        datacenter=query.get("datacenter"),
        cacert=_path(query, "cacert", base),
        cert=_path(query, "cert", base),
        key=_path(query, "key", base),
    )


def _authority(text: str, base: Path) -> AuthorityService | None:
    url = _split("ca", text, ("local", "https"))
    if url.scheme == "local":
        return None
    query = _query("ca", url, _CA_KEYS)
    host, port = _endpoint(text, url.netloc, CA_PORT)
    if url.path.strip("/"):
        raise UsageError(f'the ca "{text}" has a path', "write https://HOST:8443?fingerprint=...")
    if len(query) != 1:
        given = "both a fingerprint and a file" if query else "neither a fingerprint nor a file"
        raise UsageError(
            f'the ca "{text}" has {given} to know it by',
            "give ?fingerprint=sha256:... as the ready line of `mesh ca serve` tells it, or "
            "?cacert=FILE",
        )
    pins = query["fingerprint"].lower().split(",") if "fingerprint" in query else []
    for fingerprint in pins:
        if not _FINGERPRINT.fullmatch(fingerprint):
            raise UsageError(
                f'"{fingerprint}" in the ca "{text}" is no fingerprint',
                "it is sha256: and 64 hexadecimal digits, as `mesh ca status` shows it",
            )
    return AuthorityService(
        host=host,
        port=port,
        fingerprints=tuple(pins),
        cacert=_path(query, "cacert", base),
    )


def _split(name: str, text: str, schemes: tuple[str, ...]) -> SplitResult:
    try:
        url = urlsplit(text)
    except ValueError as error:
        raise UsageError(f'the {name} "{text}" is not a URL: {error}') from error
    if url.scheme not in schemes:
        known = ", ".join(f"{scheme}:" for scheme in schemes)
        raise UsageError(
            f'the {name} "{text}" has an unknown scheme; known are {known}',
            _nearest(url.scheme, schemes),
        )
    return url


def _query(name: str, url: SplitResult, known: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in parse_qsl(url.query, keep_blank_values=True):
        if key not in known:
            raise UsageError(f'"{key}" is no option of the {name}', _nearest(key, known))
        if not value:
            raise UsageError(f'the option "{key}" of the {name} is empty')
        found[key] = value
    return found


def _endpoint(text: str, part: str, default_port: int) -> tuple[str, int]:
    try:
        url = urlsplit(f"//{part}")
        host, port = url.hostname, url.port
    except ValueError as error:
        raise UsageError(f'"{part}" in "{text}" is no host and port: {error}') from error
    if not host or url.username is not None:
        raise UsageError(f'"{part}" in "{text}" is no host and port', "write HOST or HOST:PORT")
    return (f"[{host}]" if ":" in host else host), port or default_port


def _path(query: Mapping[str, str], key: str, base: Path) -> Path | None:
    return base / Path(query[key]).expanduser() if key in query else None


def _nearest(word: str, known: tuple[str, ...]) -> str:
    near = get_close_matches(word, known, n=1)
    if near:
        return f'did you mean "{near[0]}"?'
    return f"known: {', '.join(known)}" if known else "it takes none"
