"""A sidecar's status as bytes."""

from datetime import timedelta

import pytest

from mesh.diagnostics import Diagnostic, Position, Severity
from mesh.errors import Corrupted
from mesh.model.identity import ServiceName
from mesh.model.policy import Address
from mesh.planning.status_codec import decode_status, encode_status
from tests.support.planning import NOON, status

FULL = status(
    "h1",
    revision=6,
    seen=7,
    upstreams={ServiceName("shop", "ledger"): Address("127.0.0.1", 41003)},
    rejections=(
        Diagnostic(
            Position("web.yaml", 12),
            Severity.ERROR,
            "rejected-by-envoy",
            "no",
            "mend it",
            ((Position("b.yaml", 2, 3), "here"),),
        ),
    ),
    stale="the store is away",
    upgrade="Envoy 1.41.0 is installed, 1.40.0 runs",
    certificate_not_after=NOON + timedelta(hours=24),
    sockets="/run/mesh",
)


@pytest.mark.parametrize("given", [FULL, status("caller", inbound=None)])
def test_a_status_comes_back_as_it_was(given):
    assert decode_status(encode_status(given)) == given


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", encode_status(FULL)[:-9]])
def test_a_damaged_status_is_told(data: bytes):
    with pytest.raises(Corrupted):
        decode_status(data)
