"""What git's plumbing says."""

import pytest

from mesh.adapters.git.parsing import object_sizes, objects, tree
from mesh.errors import Corrupted
from mesh.model.source import Blob, BlobKind

ID = "a" * 40


def test_a_listing_has_files_links_and_submodules_and_no_folders():
    listing = "\0".join(
        (
            f"100644 blob {ID}\tb.yaml",
            f"100755 blob {ID}\ta.yaml",
            f"120000 blob {ID}\tlink",
            f"160000 commit {ID}\tmodule",
            f"040000 tree {ID}\tfolder",
            "",
        )
    )
    assert tree(listing.encode(), "p/") == (
        Blob("p/a.yaml", ID, BlobKind.FILE),
        Blob("p/b.yaml", ID, BlobKind.FILE),
        Blob("p/link", ID, BlobKind.LINK),
        Blob("p/module", ID, BlobKind.SUBMODULE),
    )
    assert tree(b"", "") == ()


def test_a_name_that_is_no_text_stays_showable():
    (blob,) = tree(f"100644 blob {ID}\t".encode() + b"\xff.yaml\0", "")
    assert blob.name == "\ufffd.yaml"


def test_sizes_leave_out_what_is_missing():
    told = f"{ID} blob 12\n{'b' * 40} missing\n".encode()
    assert object_sizes(told) == {ID: 12}


def test_contents_may_have_anything_in_them():
    data = b"a\n\0" + ID.encode() + b" blob 3\n"
    told = f"{ID} blob {len(data)}\n".encode() + data + b"\n" + b"b" * 40 + b" blob 0\n\n"
    assert objects(told) == {ID: data, "b" * 40: b""}
    assert objects(b"") == {}


@pytest.mark.parametrize("told", [b"x", f"{ID} missing\n".encode(), f"{ID} blob 9\nabc".encode()])
def test_contents_that_end_early_are_no_contents(told: bytes):
    with pytest.raises(Corrupted):
        objects(told)
