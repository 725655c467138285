"""Plan files carry everything, and damage does not pass."""

import hashlib
import json
from dataclasses import replace

import pytest

from mesh.errors import InputError
from mesh.planning.plan import diff
from mesh.planning.plan_file import MAGIC, is_plan_file, read_plan, write_plan
from tests.support.planning import desired, entry, manifest, wanted

CURRENT = manifest(
    entry("Service/default/a", on=["default/x"]),
    entry("Service/default/b", file="b.yaml"),
    entry("Service/default/gone"),
)
PLAN = replace(
    diff(
        CURRENT,
        wanted(
            desired("Service/default/a", "new ü"),
            desired("Service/default/b", file="moved.yaml"),
            desired("Service/default/c"),
        ),
        base=4,
        change="c4",
        source="main",
    ),
    commit="abc",
    documents=3,
)


def test_a_plan_comes_back_as_it_was():
    assert read_plan(write_plan(PLAN)) == PLAN


def test_a_plan_file_is_known_by_its_first_bytes():
    assert is_plan_file(write_plan(PLAN)[:64])
    assert not is_plan_file(b"apiVersion: mesh/v1")


@pytest.mark.parametrize("cut", [20, 84, 200, -1])
def test_a_cut_plan_file_is_refused(cut: int):
    with pytest.raises(InputError, match=r"damaged|format"):
        read_plan(write_plan(PLAN)[:cut])


def test_an_edited_plan_file_is_refused():
    with pytest.raises(InputError, match="checksum"):
        read_plan(write_plan(PLAN).replace(b"moved.yaml", b"other.yaml"))


def test_another_format_is_refused():
    with pytest.raises(InputError, match="format"):
        read_plan(b"mesh-plan 2 sha256:00\n{}")


def resealed(edit) -> bytes:
    """The plan file with an edited body and a checksum to match."""
    value = json.loads(write_plan(PLAN).partition(b"\n")[2])
    edit(value)
    body = json.dumps(value).encode()
    return MAGIC + hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def test_an_object_that_is_not_what_its_digest_says_is_refused():
    def edit(value):
        digest = next(iter(value["objects"]))
        value["objects"][digest] += " "

    with pytest.raises(InputError, match="edited"):
        read_plan(resealed(edit))


def test_a_lacking_object_is_refused():
    with pytest.raises(InputError, match="lacks"):
        read_plan(resealed(lambda value: value["objects"].clear()))


def test_a_lacking_field_is_refused():
    with pytest.raises(InputError, match="cannot be read"):
        read_plan(resealed(lambda value: value.pop("base")))
