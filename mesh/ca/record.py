"""A certificate authority's state as bytes and back: the content of one file.

One file, because it is replaced whole: no crash leaves a certificate without its key.
"""

import json
from collections.abc import Mapping
from datetime import datetime, timedelta

from mesh.ca.chain import key_to_pem, read_certificates, read_private_key, to_pem
from mesh.ca.issuance import Authority
from mesh.ca.rotation import PreparedRoot, RetiringRoot, State, consistent
from mesh.errors import CertificateRefused

_VERSION = 1


def encode(state: State) -> bytes:
    """The state with its private keys, as JSON: for a 0600 file and nothing else."""
    prepared = state.prepared
    document = {
        "version": _VERSION,
        "trust_domain": state.trust_domain,
        "root": _authority(state.root),
        "intermediate": _authority(state.intermediate),
        "prepared": prepared
        and {
            **_authority(prepared.authority),
            "activate_at": prepared.activate_at.isoformat(),
        },
        "retiring": [
            {
                "certificate": to_pem(root.certificate).decode(),
                "retire_at": root.retire_at.isoformat(),
            }
            for root in state.retiring
        ],
        "longest_leaf_seconds": state.longest_leaf.total_seconds(),
    }
    return json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"


def decode(content: bytes) -> State:
    """The state that `encode` wrote, its keys checked against its certificates.

    Raises:
        CertificateRefused: anything else; the message quotes none of the content.
    """
    try:
        document = json.loads(content)
        if document["version"] != _VERSION:
            raise CertificateRefused(
                f"written by another version of mesh (format {document['version']!r}, "
                f"this one reads {_VERSION})"
            )
        return consistent(_state(document))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise CertificateRefused(f"not a certificate authority ({type(error).__name__})") from None


def _state(document: Mapping[str, object]) -> State:
    prepared = document["prepared"]
    retiring = document["retiring"]
    seconds = document["longest_leaf_seconds"]
    if not isinstance(retiring, list) or not isinstance(seconds, int | float):
        raise TypeError
    return State(
        trust_domain=_text(document, "trust_domain"),
        root=_read_authority(_mapping(document["root"])),
        intermediate=_read_authority(_mapping(document["intermediate"])),
        prepared=None if prepared is None else _read_prepared(_mapping(prepared)),
        retiring=tuple(_read_retiring(_mapping(root)) for root in retiring),
        longest_leaf=timedelta(seconds=seconds),
    )


def _authority(authority: Authority) -> dict[str, str]:
    return {
        "certificate": to_pem(authority.certificate).decode(),
        "private_key": key_to_pem(authority.private_key).decode(),
    }


def _read_authority(document: Mapping[str, object]) -> Authority:
    return Authority(
        read_certificates(_text(document, "certificate").encode())[0],
        read_private_key(_text(document, "private_key").encode()),
    )


def _read_prepared(document: Mapping[str, object]) -> PreparedRoot:
    return PreparedRoot(_read_authority(document), _moment(document, "activate_at"))


def _read_retiring(document: Mapping[str, object]) -> RetiringRoot:
    return RetiringRoot(
        read_certificates(_text(document, "certificate").encode())[0],
        _moment(document, "retire_at"),
    )


def _mapping(value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise TypeError
    return value


def _text(document: Mapping[str, object], name: str) -> str:
    value = document[name]
    if not isinstance(value, str):
        raise TypeError
    return value


def _moment(document: Mapping[str, object], name: str) -> datetime:
    moment = datetime.fromisoformat(_text(document, name))
    if moment.tzinfo is None:
        raise TypeError
    return moment
