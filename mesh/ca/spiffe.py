"""SPIFFE IDs: the grammar of the SPIFFE-ID standard, and the shape that this mesh gives them."""

import re

from mesh.model.identity import Identity, ServiceName

_SCHEME = "spiffe://"
_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]+", re.ASCII)
_SEGMENT = re.compile(r"[A-Za-z0-9._-]+", re.ASCII)
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_MAX_TRUST_DOMAIN_BYTES = 255
_MAX_URI_BYTES = 2048


class MalformedID(ValueError):
    """Not a SPIFFE ID: `section` of the standard says why."""

    def __init__(self, section: str, message: str) -> None:
        super().__init__(f"{message} ({section})")
        self.section = section
        self.message = message


def parse_trust_domain(text: str) -> str:
    """The trust domain's name, unchanged.

    Raises:
        MalformedID: SPIFFE-ID section 2.1 forbids it.
    """
    if not _TRUST_DOMAIN.fullmatch(text):
        raise MalformedID(
            "SPIFFE-ID section 2.1",
            f'trust domain "{text}" must be of lower-case letters, digits, ".", "-" and "_"',
        )
    if len(text) > _MAX_TRUST_DOMAIN_BYTES:
        raise MalformedID(
            "SPIFFE-ID section 2.1",
            f"trust domain of {len(text)} bytes is longer than {_MAX_TRUST_DOMAIN_BYTES}",
        )
    return text


def parse_id(uri: str) -> tuple[str, str]:
    """The trust domain and the path; the path is empty (the domain itself) or starts with `/`.

    Raises:
        MalformedID: the SPIFFE-ID standard forbids it.
    """
    if len(uri.encode()) > _MAX_URI_BYTES:
        raise MalformedID("SPIFFE-ID section 2.3", f"longer than {_MAX_URI_BYTES} bytes")
    if not uri.startswith(_SCHEME):
        raise MalformedID("SPIFFE-ID section 2", f'scheme of "{uri}" is not "spiffe"')
    if "?" in uri or "#" in uri:
        raise MalformedID("SPIFFE-ID section 2", f'"{uri}" has a query or a fragment')
    trust_domain, slash, rest = uri.removeprefix(_SCHEME).partition("/")
    parse_trust_domain(trust_domain)
    segments = rest.split("/") if slash else []
    for segment in segments:
        if not _SEGMENT.fullmatch(segment) or segment in {".", ".."}:
            raise MalformedID(
                "SPIFFE-ID section 2.2", f'path segment "{segment}" of "{uri}" is not allowed'
            )
    return trust_domain, slash + rest


def parse_identity(uri: str) -> Identity:
    """The identity of a service of this mesh: `spiffe://<td>/ns/<namespace>/svc/<service>`.

    Raises:
        MalformedID: not a SPIFFE ID, without a path, or of another shape.
    """
    trust_domain, path = parse_id(uri)
    if not path:
        raise MalformedID("X509-SVID section 3.1", f'"{uri}" has no path')
    match path.split("/"):
        case ["", "ns", namespace, "svc", service] if _LABEL.fullmatch(
            namespace
        ) and _LABEL.fullmatch(service):
            return Identity(trust_domain, ServiceName(namespace, service))
        case _:
            raise MalformedID(
                "mesh profile", f'"{uri}" is not spiffe://<trust domain>/ns/<name>/svc/<name>'
            )
