"""Planning and applying documents, of one source and of several."""

from datetime import timedelta
from pathlib import Path

import pytest

from mesh.diagnostics import Diagnostic, Position, Severity
from mesh.errors import InputError, InvalidDocuments, NotAccepted, OutOfSpace, StalePlan
from mesh.operations.apply import Terms, apply, load_plan, names_plan_file
from mesh.operations.history import difference, history, prepare_rollback
from mesh.operations.plan import prepare
from mesh.operations.state import read_state
from mesh.operations.trust import publish
from mesh.planning.plan import Act
from mesh.planning.plan_file import write_plan
from tests.support.faulty_store import Fault, FaultyStore
from tests.support.operations import CLOCK, access, applied, opened, report, service, write
from tests.support.planning import key, status

ROUTE = """\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r, namespace: default}
spec:
  parentRefs: [{group: "", kind: Service, name: api}]
  rules: [{backendRefs: [{name: api, port: 80}]}]
"""
MESH = """\
apiVersion: mesh/v1
kind: Mesh
metadata: {{name: mesh}}
spec: {{trustDomain: {domain}}}
"""

WAITING = Terms(within=timedelta(seconds=10))


async def test_a_set_is_one_revision_and_again_is_none(tmp_path: Path):
    async with opened(tmp_path) as store:
        paths = [write(tmp_path / "p", a=service("api"), b=access("api", "web"))]
        assert (await applied(store, paths)).revision == 1
        again = await applied(store, paths)
        assert again.unchanged
        assert again.revision == 1
        (revision,) = await history(store)
        assert (revision.created, revision.message) == (2, "m")


async def test_another_spelling_and_place_of_the_same_changes_nothing(tmp_path: Path):
    async with opened(tmp_path) as store:
        await applied(store, [write(tmp_path / "p", a=service("api"))])
        spelled = (
            "# moved\n---\nkind: Service\nspec:\n  port: 80\n  protocol: 'http'\n"
            "metadata:\n  namespace: default\n  name: api\napiVersion: mesh/v1\n"
        )
        assert (await applied(store, [write(tmp_path / "q", z=spelled)])).unchanged


async def test_what_left_the_files_leaves_the_mesh(tmp_path: Path):
    async with opened(tmp_path) as store:
        await applied(store, [write(tmp_path / "p", a=service("api"), b=service("web"))])
        (tmp_path / "p" / "b.yaml").unlink()
        prepared = await prepare(store, [str(tmp_path / "p")], "main")
        assert [(item.act, item.key.name) for item in prepared.plan.changes] == [
            (Act.DELETE, "web")
        ]


async def test_mistakes_are_all_told_and_nothing_is_written(tmp_path: Path):
    async with opened(tmp_path) as store:
        wrong = service("api", extra=", retires: 1") + "---\n" + access("stock", "web")
        with pytest.raises(InvalidDocuments) as caught:
            await applied(store, [write(tmp_path / "p", a=wrong)])
        assert len(caught.value.diagnostics) == 2
        assert (await read_state(store)).head is None


async def test_no_document_at_all_is_refused_unless_it_is_meant(tmp_path: Path):
    async with opened(tmp_path) as store:
        await applied(store, [write(tmp_path / "p", a=service("api"))])
        empty = write(tmp_path / "empty", a="# nothing\n")
        with pytest.raises(InputError, match="no document") as caught:
            await prepare(store, [empty], "main")
        assert "--allow-empty" in caught.value.hint
        prepared = await prepare(store, [empty], "main", allow_empty=True)
        assert prepared.plan.count(Act.DELETE) == 1


async def test_sources_are_linked_together_and_own_their_documents(tmp_path: Path):
    async with opened(tmp_path) as store:
        services = write(tmp_path / "services", a=service("api"))
        routes = write(tmp_path / "routes", r=ROUTE)
        with pytest.raises(InvalidDocuments):
            await applied(store, [routes], "routes")
        await applied(store, [services], "services")
        assert (await applied(store, [routes], "routes")).revision == 2
        with pytest.raises(InvalidDocuments) as caught:
            await applied(store, [services], "routes")
        assert caught.value.diagnostics[0].code == "owned-elsewhere"
        assert "services" in caught.value.diagnostics[0].message


async def test_a_source_cannot_take_away_what_another_one_needs(tmp_path: Path):
    async with opened(tmp_path) as store:
        await applied(store, [write(tmp_path / "services", a=service("api"))], "services")
        await applied(store, [write(tmp_path / "routes", r=ROUTE)], "routes")
        with pytest.raises(InvalidDocuments) as caught:
            await applied(store, [write(tmp_path / "other", a=service("web"))], "services")
        (found,) = caught.value.diagnostics
        assert found.code == "still-referenced"
        assert found.position.file.endswith("r.yaml")


async def test_a_plan_file_is_applied_as_it_was_made(tmp_path: Path):
    async with opened(tmp_path) as store:
        paths = [write(tmp_path / "p", a=service("api"))]
        prepared = await prepare(store, paths, "main")
        file = tmp_path / "next.plan"
        file.write_bytes(write_plan(prepared.plan))
        write(tmp_path / "p", a=service("changed"))
        assert names_plan_file(str(file))
        assert not names_plan_file(str(tmp_path / "p" / "a.yaml"))
        loaded = await load_plan(store, file)
        assert loaded.plan == prepared.plan
        await apply(store, CLOCK, loaded, Terms(), lambda _: None)
        assert key("Service/default/api") in (await read_state(store)).manifest
        with pytest.raises(StalePlan, match="from 0 to 1"):
            await load_plan(store, file)


async def test_the_impact_is_the_live_sidecars_that_a_change_touches(tmp_path: Path):
    async with opened(tmp_path) as store:
        await applied(
            store, [write(tmp_path / "p", a=service("api"), b=access("api", "web"), c=service("x"))]
        )
        for name in ("api", "web", "x"):
            await report(store, status(f"{name}-1", f"default/{name}"))
        await report(store, status("api-2"), alive=False)
        paths = [write(tmp_path / "p", b=access("api", "web", "POST"))]
        prepared = await prepare(store, paths, "main")
        assert [item.id for item in prepared.impact] == ["api-1", "web-1"]
        assert prepared.live == 3
        (change,) = prepared.plan.changes
        assert [field.path for field in change.fields] == ["spec.rules[r].to[0].methods[0]"]


async def test_waiting_sees_who_accepted(tmp_path: Path):
    async with opened(tmp_path) as store:
        await report(store, status("api-1", revision=0, seen=0))
        prepared = await prepare(store, [write(tmp_path / "p", a=service("api"))], "main")
        await report(store, status("api-1", revision=1, seen=1))
        outcome = await apply(store, CLOCK, prepared, WAITING, lambda _: None)
        assert outcome.is_done
        assert outcome.acceptance.accepted == ("api-1",)


async def test_a_rejection_is_told_and_taken_back_where_asked(tmp_path: Path):
    nack = Diagnostic(Position("a.yaml", 1), Severity.ERROR, "rejected-by-envoy", "no")
    async with opened(tmp_path) as store:
        await applied(store, [write(tmp_path / "p", a=service("api"))])
        await report(store, status("api-1", revision=1, seen=1))
        paths = [write(tmp_path / "p", a=service("api", extra=", dependencies: []"))]
        terms = Terms(within=timedelta(seconds=10), rollback_on_reject=True)
        prepared = await prepare(store, paths, "main")
        await report(store, status("api-1", revision=1, seen=2, rejections=(nack,)))
        outcome = await apply(store, CLOCK, prepared, terms, lambda _: None)
        assert not outcome.is_done
        assert (outcome.refused, outcome.restored, outcome.revision) == (2, 1, 3)
        assert outcome.acceptance.diagnostics == (nack,)
        assert (await difference(store, 1, 3)).changes == ()


async def test_what_cannot_be_taken_back_is_told_to_be_committed(tmp_path: Path):
    nack = Diagnostic(Position("a.yaml", 1), Severity.ERROR, "rejected-by-envoy", "no")
    async with opened(tmp_path) as store:
        await applied(store, [write(tmp_path / "p", a=service("api"))])
        await report(store, status("api-1", revision=1, seen=1))
        paths = [write(tmp_path / "p", a=service("api", extra=", dependencies: []"))]
        terms = Terms(within=timedelta(seconds=10), rollback_on_reject=True)
        prepared = await prepare(store, paths, "main")
        await report(store, status("api-1", revision=1, seen=2, rejections=(nack,)))
        committing = 2  # the objects, and head
        broken = FaultyStore(
            store, lambda number, _: Fault(OutOfSpace("full")) if number > committing else None
        )
        with pytest.raises(NotAccepted, match=r"revision 2 is committed, .*api-1.*: full"):
            await apply(broken, CLOCK, prepared, terms, lambda _: None)
        assert (await read_state(store)).number == 2


async def test_the_first_revision_is_taken_back_to_the_empty_mesh(tmp_path: Path):
    nack = Diagnostic(Position("a.yaml", 1), Severity.ERROR, "rejected-by-envoy", "no")
    async with opened(tmp_path) as store:
        await report(store, status("api-1", revision=0, seen=0))
        prepared = await prepare(store, [write(tmp_path / "p", a=service("api"))], "main")
        await report(store, status("api-1", revision=0, seen=1, rejections=(nack,)))
        terms = Terms(within=timedelta(seconds=10), rollback_on_reject=True)
        outcome = await apply(store, CLOCK, prepared, terms, lambda _: None)
        assert outcome.restored == 0
        assert (await read_state(store)).manifest == {}


async def test_a_rollback_is_a_new_revision_with_the_old_documents(tmp_path: Path):
    async with opened(tmp_path) as store:
        await applied(store, [write(tmp_path / "p", a=service("api"))])
        first = (await read_state(store)).manifest
        await applied(store, [write(tmp_path / "q", a=service("web"))])
        prepared = await prepare_rollback(store, 1, None)
        assert (await apply(store, CLOCK, prepared, Terms(), lambda _: None)).revision == 3
        assert (await read_state(store)).manifest == first


async def test_a_rollback_of_one_source_leaves_the_others(tmp_path: Path):
    async with opened(tmp_path) as store:
        await applied(store, [write(tmp_path / "p", a=service("api"))], "one")
        await applied(store, [write(tmp_path / "q", a=service("web"))], "two")
        await applied(store, [write(tmp_path / "r", a=service("new"))], "one")
        prepared = await prepare_rollback(store, 2, "one")
        await apply(store, CLOCK, prepared, Terms(), lambda _: None)
        names = {item.name for item in (await read_state(store)).manifest}
        assert names == {"api", "web"}


async def test_a_rollback_that_takes_what_others_need_is_refused(tmp_path: Path):
    async with opened(tmp_path) as store:
        await applied(store, [write(tmp_path / "w", a=service("web"))], "services")
        await applied(store, [write(tmp_path / "w", b=service("api"))], "services")
        await applied(store, [write(tmp_path / "routes", r=ROUTE)], "routes")
        with pytest.raises(InvalidDocuments):
            await prepare_rollback(store, 1, "services")


async def test_another_trust_domain_than_the_certificates_have_is_refused(tmp_path: Path):
    async with opened(tmp_path) as store:
        one = write(tmp_path / "p", m=MESH.format(domain="one.example"))
        await publish(store, b'{"trust_domain": "one.example", "roots": ""}')
        assert (await applied(store, [one])).revision == 1
        two = write(tmp_path / "p", m=MESH.format(domain="two.example"))
        with pytest.raises(InputError, match=r'"two\.example".*"one\.example"') as caught:
            await applied(store, [two])
        assert "mesh ca init --trust-domain two.example" in caught.value.hint


async def test_any_trust_domain_goes_before_there_is_a_certificate_authority(tmp_path: Path):
    async with opened(tmp_path) as store:
        paths = [write(tmp_path / "p", m=MESH.format(domain="one.example"))]
        assert (await applied(store, paths)).revision == 1
