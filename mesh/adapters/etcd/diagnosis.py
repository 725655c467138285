"""Why an etcd member cannot be reached, by trying again without gRPC.

gRPC reports every failure to connect as UNAVAILABLE with a text that changes between versions;
the socket and TLS modules raise types.
"""

import asyncio
import socket
import ssl
from contextlib import suppress
from pathlib import Path

from mesh.adapters.etcd.settings import EtcdSettings
from mesh.errors import Denied, OutsideError, Unavailable

# How long a server that dislikes the client's certificate may take to say so: with TLS 1.3 the
# client's handshake is over by then.
ALERT_SECONDS = 0.3
# What asyncio raises where a server ends a handshake without a word.
_BROKEN_OFF = (ConnectionError, ConnectionResetError, ConnectionAbortedError, BrokenPipeError)


def tls_context(settings: EtcdSettings) -> ssl.SSLContext | None:
    """The TLS of these settings, None without TLS.

    Raises:
        Denied: a file is missing, unreadable or no PEM.
    """
    if settings.cacert is None and settings.cert is None:
        return None
    path = settings.cacert
    try:
        context = ssl.create_default_context(cafile=path)
        if settings.cert is not None and settings.key is not None:
            path = settings.cert
            context.load_cert_chain(settings.cert, settings.key)
    except (OSError, ssl.SSLError) as error:
        what = error.strerror or str(error)
        raise Denied(
            f'cannot use "{path}" to reach etcd: {what}',
            hint="check cacert, cert and key of the store's setting",
        ) from error
    context.set_alpn_protocols(["h2"])
    return context


async def diagnose(settings: EtcdSettings, endpoint: str, seconds: float) -> OutsideError | None:
    """What keeps a connection to `endpoint` from being made; None if nothing does."""
    host, _, port = endpoint.rpartition(":")
    context = tls_context(settings)
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(host.strip("[]"), int(port), ssl=context)
            try:
                if context is not None:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(ALERT_SECONDS):
                            await reader.read(1)
            finally:
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()
    except (OSError, TimeoutError) as error:
        if context is not None and type(error) in _BROKEN_OFF:
            return _no_tls(endpoint, "the connection broke off")
        return _explain(error, endpoint, settings.cert)
    return None


def _explain(error: OSError, endpoint: str, cert: Path | None) -> OutsideError:
    if isinstance(error, ssl.SSLError):
        return _explain_tls(error, endpoint, cert)
    if isinstance(error, ConnectionRefusedError):
        return Unavailable(f"no etcd at {endpoint}: nobody listens there", hint="is it running?")
    if isinstance(error, socket.gaierror):
        return Unavailable(f"no address for etcd at {endpoint}: {error.strerror}")
    if isinstance(error, TimeoutError):
        return Unavailable(f"no answer from etcd at {endpoint}", hint="is it cut off?")
    return Unavailable(f"cannot reach etcd at {endpoint}: {error.strerror or error}")


def _explain_tls(error: ssl.SSLError, endpoint: str, cert: Path | None) -> OutsideError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return Denied(
            f"the certificate of etcd at {endpoint} is not trusted: {error.verify_message}",
            hint="cacert must hold the CA that signed it, and it must name the endpoint's host",
        )
    if error.reason and "ALERT" in error.reason:
        known = f" ({_described(cert)})" if cert else ""
        return Denied(
            f"etcd at {endpoint} refuses this client's certificate{known}: {error.reason}",
            hint="renew cert and key in their place, signed by a CA that etcd trusts"
            " (--trusted-ca-file)"
            if cert
            else "give cert and key, signed by a CA that etcd trusts (--trusted-ca-file)",
        )
    return _no_tls(endpoint, error.reason or str(error))


def _described(cert: Path) -> str:
    """Whose certificate it is, and how long it is valid."""
    from cryptography import x509  # for this one sentence

    try:
        found = x509.load_pem_x509_certificate(cert.read_bytes())
    except (OSError, ValueError):
        return f'"{cert}"'
    names = found.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    name = str(names[0].value) if names else "no name"
    return f"{name}, until {found.not_valid_after_utc:%Y-%m-%d %H:%M}Z"


def _no_tls(endpoint: str, reason: str) -> OutsideError:
    return Unavailable(
        f"no TLS with etcd at {endpoint}: {reason}",
        hint="does it speak TLS? if not, leave cacert out",
    )
