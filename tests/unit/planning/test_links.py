"""What a change leaves without its target."""

from mesh.planning.links import newly_dangling
from tests.support.planning import entry, manifest

API = entry("Service/default/api", file="api.yaml")
ROUTE = entry("HTTPRoute/default/r", on=["default/api"], source="other", file="r.yaml", line=3)


def test_nothing_dangles_where_nothing_went():
    assert newly_dangling(manifest(API, ROUTE), manifest(API, ROUTE)) == []


def test_taking_a_target_away_is_told_at_who_needs_it():
    (found,) = newly_dangling(manifest(API, ROUTE), manifest(ROUTE))
    assert found.code == "still-referenced"
    assert str(found.position) == "r.yaml:3:1"
    assert '"default/api"' in found.message
    assert found.related[0][0].file == "api.yaml"


def test_taking_both_away_is_fine():
    assert newly_dangling(manifest(API, ROUTE), {}) == []


def test_what_dangled_before_is_not_told_again():
    other = entry("Service/default/x")
    assert newly_dangling(manifest(ROUTE, other), manifest(ROUTE)) == []


def test_bringing_back_what_refers_to_nothing_is_told():
    (found,) = newly_dangling({}, manifest(ROUTE))
    assert found.code == "still-referenced"


def test_a_dependency_may_have_become_an_external_service():
    web = entry("Service/default/web", uses=["default/db"])
    before = manifest(web, entry("Service/default/db"))
    assert newly_dangling(before, manifest(web, entry("ExternalService/default/db"))) == []
