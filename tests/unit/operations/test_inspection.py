"""Documents as they are stored, and what bears on them."""

import json
from pathlib import Path

import pytest

from mesh.errors import NotFound, UsageError
from mesh.operations.inspection import Description, Selection, describe, documents, kind_of
from mesh.ports import Store
from tests.support.operations import access, applied, opened, report, service, write
from tests.support.planning import key, status, target

VIEW = service("api-v1", extra=", instances: {service: api, meta: {version: v1}}")
ROUTE = """\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r}
spec:
  parentRefs: [{group: "", kind: Service, name: api}]
  rules: [{backendRefs: [{name: api-v1, port: 80}]}]
"""
TRAFFIC = """\
apiVersion: mesh/v1
kind: TrafficPolicy
metadata: {name: t}
spec: {targetRefs: [{kind: Service, name: api}], limits: {requests: 9}}
"""


async def shop(store: Store, folder: Path) -> None:
    await applied(
        store,
        [
            write(
                folder / "p",
                api=service("api") + "---\n" + access("api", "web") + "---\n" + VIEW,
                web=service("web"),
                route=ROUTE,
            )
        ],
    )


def related(found: Description) -> set[tuple[str, str]]:
    return {(item.how, item.entry.key.name) for item in found.relations}


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Service", "Service"),
        ("services", "Service"),
        ("httproute", "HTTPRoute"),
        ("accesspolicies", "AccessPolicy"),
    ],
)
def test_kinds_are_known_in_any_case_and_number(text: str, kind: str):
    assert kind_of(text) == kind


def test_an_unknown_kind_is_refused_with_the_nearest():
    with pytest.raises(UsageError) as caught:
        kind_of("acesspolicy")
    assert "AccessPolicy" in caught.value.hint


async def test_documents_are_selected(tmp_path: Path):
    async with opened(tmp_path) as store:
        await shop(store, tmp_path)
        assert len(await documents(store, Selection())) == 5
        assert len(await documents(store, Selection(kind="Service"))) == 3
        (found,) = await documents(store, Selection(kind="Service", name="web"))
        assert json.loads(found)["metadata"]["name"] == "web"
        assert await documents(store, Selection(namespace="shop")) == ()


async def test_a_document_that_is_not_there_is_told_with_the_nearest(tmp_path: Path):
    async with opened(tmp_path) as store:
        await shop(store, tmp_path)
        with pytest.raises(NotFound) as caught:
            await documents(store, Selection(kind="Service", name="wep"))
        assert "Service default/web" in caught.value.hint


async def test_an_older_revision_is_read(tmp_path: Path):
    async with opened(tmp_path) as store:
        await shop(store, tmp_path)
        await applied(store, [write(tmp_path / "q", a=service("new"))])
        assert len(await documents(store, Selection(), 1)) == 5
        with pytest.raises(NotFound, match='"9"'):
            await documents(store, Selection(), 9)


async def test_a_service_is_described_with_all_that_bears_on_it(tmp_path: Path):
    async with opened(tmp_path) as store:
        await shop(store, tmp_path)
        await report(store, status("api-1"))
        found = await describe(store, key("Service/default/api"))
        assert related(found) == {("view", "api-v1"), ("route", "r"), ("access", "api")}
        assert found.callers == (target("default/web"),)
        assert [item.status.id for item in found.members] == ["api-1"]
        web = await describe(store, key("Service/default/web"))
        assert set(web.may_call) == {target("default/api"), target("default/api-v1")}


async def test_a_view_is_described_with_its_service_and_users(tmp_path: Path):
    async with opened(tmp_path) as store:
        await shop(store, tmp_path)
        found = await describe(store, key("Service/default/api-v1"))
        assert related(found) == {("on", "api"), ("used by", "r")}
        assert found.callers == (target("default/web"),)
        await applied(store, [write(tmp_path / "t", t=TRAFFIC)], "traffic")
        found = await describe(store, key("Service/default/api-v1"))
        assert ("traffic", "t") in related(found)


async def test_a_policy_is_described_with_its_targets_and_the_sidecars_it_concerns(tmp_path: Path):
    async with opened(tmp_path) as store:
        await shop(store, tmp_path)
        for name in ("api", "web", "other"):
            await report(store, status(f"{name}-1", f"default/{name}"))
        found = await describe(store, key("AccessPolicy/default/api"))
        assert related(found) == {("on", "api")}
        assert [item.status.id for item in found.members] == ["api-1", "web-1"]


async def test_a_service_without_a_document_is_described_while_it_has_sidecars(tmp_path: Path):
    async with opened(tmp_path) as store:
        await shop(store, tmp_path)
        with pytest.raises(NotFound):
            await describe(store, key("Service/default/stranger"))
        await report(store, status("stranger-1", "default/stranger"))
        found = await describe(store, key("Service/default/stranger"))
        assert found.entry is None
        assert found.may_call == ()


async def test_a_caller_without_a_document_is_described_by_what_it_may_call(tmp_path: Path):
    async with opened(tmp_path) as store:
        documents = service("api") + "---\n" + access("api", "job")
        await applied(store, [write(tmp_path / "p", api=documents)])
        found = await describe(store, key("Service/default/job"))
        assert found.entry is None
        assert found.may_call == (target("Service/default/api"),)
