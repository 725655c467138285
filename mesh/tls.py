"""TLS contexts of the certificate authority's two sides, from PEM that is in memory.

TLS 1.3 alone: both sides are ours. Keys reach OpenSSL by an anonymous file of this process's
memory, because Python's `ssl` reads them from files only.
"""

import os
import ssl
import tempfile


def server_context(chain_pem: bytes, key_pem: bytes, roots_pem: bytes) -> ssl.SSLContext:
    """For a server of this chain that asks clients for a certificate, and lets them go without.

    One that is shown must lead to `roots_pem` and be made for clients. Sessions are not resumed:
    every connection proves itself anew.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0
    context.verify_mode = ssl.CERT_OPTIONAL
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_verify_locations(cadata=roots_pem.decode())
    _load(context, chain_pem, key_pem)
    return context


def client_context(
    roots_pem: bytes, chain_pem: bytes = b"", key_pem: bytes = b""
) -> ssl.SSLContext:
    """For a client that trusts these roots alone and checks the server's name; with a chain and
    its key it shows them.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_verify_locations(cadata=roots_pem.decode())
    if chain_pem:
        _load(context, chain_pem, key_pem)
    return context


def unverified_context() -> ssl.SSLContext:
    """For a client that authenticates what it reads by other means: by a fingerprint."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _load(context: ssl.SSLContext, chain_pem: bytes, key_pem: bytes) -> None:
    content = key_pem + b"\n" + chain_pem
    if not hasattr(os, "memfd_create"):  # not Linux: a private file, for a moment
        with tempfile.NamedTemporaryFile(prefix="mesh-key-") as file:
            file.write(content)
            file.flush()
            context.load_cert_chain(file.name)
        return
    descriptor = os.memfd_create("mesh-key", os.MFD_CLOEXEC)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
        stream.flush()
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
