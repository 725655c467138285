"""`mesh ca serve`: the command line, parsed, and the one line that says it serves."""

import asyncio
import ipaddress
import json
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from mesh.adapters.clock import SystemClock
from mesh.adapters.systemd import notify
from mesh.authority.ports import AuthorityOptions, AuthorityPorts, Serving
from mesh.authority.run import serve
from mesh.ca.issuance import leaf_lifetime_is_allowed
from mesh.ca.server import server_name
from mesh.cli import console, wiring
from mesh.cli.flags import Flags
from mesh.cli.options import duration
from mesh.cli.sidecar_options import address
from mesh.errors import CertificateRefused, NotFound, UsageError
from mesh.model.policy import Address
from mesh.operations.trust import published_domain

if TYPE_CHECKING:
    from mesh.adapters.issuer import LocalIssuer
    from mesh.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """The flags as they were typed; None is "not given"."""

    listen: str
    names: Sequence[str]
    trust_domain: str | None
    max_lifetime: str
    metrics: str | None

    def options(self) -> AuthorityOptions:
        """What they mean.

        Raises:
            UsageError: one of them is wrong.
        """
        from importlib.metadata import version

        listen = address(self.listen, "--listen")
        longest = duration(self.max_lifetime, "--max-lifetime")
        if not leaf_lifetime_is_allowed(longest):
            raise UsageError(
                f'--max-lifetime: no certificate may live for "{self.max_lifetime}"',
                "write 1s to 2160h; the default is 168h",
            )
        return AuthorityOptions(
            listen=listen,
            names=tuple(_names(self.names)) or own_names(listen, socket.gethostname()),
            version=version("mesh"),
            metrics=None if self.metrics is None else address(self.metrics, "--metrics"),
            longest_leaf=longest,
        )


def run(context: typer.Context, given: Given, *, as_json: bool) -> None:
    """Serve until a signal."""
    from mesh import log

    settings = wiring.settings_of(context)
    options = given.options()
    verbose = isinstance(context.obj, Flags) and context.obj.verbose
    log.configure("debug" if verbose else "info")
    asyncio.run(_run(settings, options, given.trust_domain, as_json=as_json))


async def _run(
    settings: "Settings", options: AuthorityOptions, trust_domain: str | None, *, as_json: bool
) -> None:
    clock = SystemClock()
    async with wiring.open_store(settings, clock) as store:
        issuer = wiring.make_issuer(settings, clock, trust_domain)
        if trust_domain is None and await _is_new(issuer):
            # The mesh is older than its authority: it says which trust domain it is.
            issuer = wiring.make_issuer(settings, clock, await published_domain(store))
        ports = AuthorityPorts(clock=clock, store=store, signer=issuer)
        await serve(options, ports, lambda serving: _announce(serving, as_json=as_json))


async def _is_new(issuer: "LocalIssuer") -> bool:
    try:
        await issuer.status()
    except NotFound:
        return True
    return False


def _names(given: Sequence[str]) -> list[str]:
    try:
        return [server_name(name) for text in given for name in text.split(",")]
    except CertificateRefused as error:
        raise UsageError(f"--name: {error.message}", error.hint) from error


def own_names(listen: Address, hostname: str) -> tuple[str, ...]:
    """What a service is reached by that was given no name: its address, or for one that listens
    on every address the host's name and loopback.
    """
    wildcard = ipaddress.ip_address(listen.address).is_unspecified
    wanted = [hostname, "localhost", "127.0.0.1"] if wildcard else [listen.address, hostname]
    found = []
    for name in wanted:
        try:
            found.append(server_name(name))
        except CertificateRefused:
            continue  # a host may be called what X.509 forbids
    return tuple(found)


def _announce(serving: Serving, *, as_json: bool) -> None:
    """The one line on standard output, and a word to systemd: whoever reads it may join."""
    words = [
        "ready",
        f"ca={serving.url}",
        f"listen={_text(serving.listen)}",
        f"trust_domain={serving.trust_domain}",
        f"names={','.join(serving.names)}",
    ]
    if serving.metrics is not None:
        words.append(f"metrics={_text(serving.metrics)}")
    line = " ".join(words)
    notify(f"READY=1\nSTATUS={line}")
    console.say_now(json.dumps(_json(serving)) if as_json else line)  # one line, as the sidecar's


def _json(serving: Serving) -> dict[str, console.JSON]:
    return {
        "ready": True,
        "ca": serving.url,
        "fingerprint": serving.fingerprint,
        "listen": _text(serving.listen),
        "metrics": None if serving.metrics is None else _text(serving.metrics),
        "trust_domain": serving.trust_domain,
        "names": list(serving.names),
    }


def _text(address: Address) -> str:
    host = f"[{address.address}]" if ":" in address.address else address.address
    return f"{host}:{address.port}"
