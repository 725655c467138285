"""A sidecar that reads only what the manifest says concerns it compiles the same snapshot."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.compiler.assemble import compile_view
from mesh.compiler.scope import Reach
from mesh.model.policy import Policy
from mesh.model.revision import Policies
from mesh.planning.scope import closure
from tests.support import sidecars
from tests.support.meshes import MESHES, indexed
from tests.support.policies import name

AUTHORITY = sidecars.Authority()
SVIDS = {each: AUTHORITY.svid(name(each)) for each in ("a", "b", "ops/a")}


@settings(max_examples=150, deadline=None)
@given(MESHES, st.sampled_from(sorted(SVIDS)))
def test_what_concerns_a_sidecar_is_all_that_it_needs(items: list[Policy], caller: str) -> None:
    whole = indexed(items)
    manifest = {key: applied.entry for key, applied in whole.items()}
    concerned = closure(manifest, name(caller))
    part = {key: applied for key, applied in whole.items() if key in concerned}
    upstreams = tuple(str(each) for each in Reach(whole, name(caller)).tcp_upstreams)
    place = sidecars.placement(caller, app=8080, upstreams=upstreams)

    def compiled(known: Policies) -> object:
        view = sidecars.view(known, place)
        return compile_view(replace(view, svid=SVIDS[caller], bundle=AUTHORITY.bundle))

    assert Reach(part, name(caller)).interest == Reach(whole, name(caller)).interest
    assert Reach(part, name(caller)).tcp_upstreams == Reach(whole, name(caller)).tcp_upstreams
    assert compiled(part) == compiled(whole)
