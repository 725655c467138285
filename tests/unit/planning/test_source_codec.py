"""A source's report, there and back."""

import pytest

from mesh.diagnostics import Diagnostic, Position, Severity
from mesh.errors import Corrupted
from mesh.model.source import GitCommit, SourceStatus, SyncState
from mesh.operations.sources import leader_name, write_leader
from mesh.planning.source_codec import decode_source, encode_source
from tests.support.manual_clock import EPOCH

PLAIN = SourceStatus(
    source="team/shop", repository="r", branch="main", path="", state=SyncState.SYNCED, since=EPOCH
)
FULL = SourceStatus(
    source="main",
    repository="https://git.example/m.git",
    branch="b",
    path="policies",
    state=SyncState.REFUSED,
    commit=GitCommit(id="a" * 40, author="Ann <a@x>", subject="ünï", time=EPOCH),
    applied="b" * 40,
    revision=4,
    head=5,
    held=3,
    code="invalid-documents",
    message="m",
    hint="h",
    diagnostics=(Diagnostic(Position("a.yaml", 2, 3), Severity.ERROR, "c", "m", "h"),),
    since=EPOCH,
    checked=EPOCH,
)


@pytest.mark.parametrize("status", [PLAIN, FULL], ids=["plain", "full"])
def test_a_report_survives(status: SourceStatus):
    assert decode_source(encode_source(status)) == status


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"source": 1}'])
def test_what_is_no_report_is_told(data: bytes):
    with pytest.raises(Corrupted):
        decode_source(data)


def test_a_leader_has_a_name_whatever_the_bytes_are():
    assert leader_name(write_leader("ann", "token")) == "ann"
    assert leader_name(b"\xff") == "unknown"
