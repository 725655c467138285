"""Small meshes of every kind of policy, for properties."""

from dataclasses import replace

from hypothesis import strategies as st

from mesh.model.policy import (
    Action,
    Default,
    HTTPRule,
    InstanceSelector,
    Limits,
    Policy,
    Protocol,
)
from mesh.model.revision import Policies
from mesh.operations.drafting import index
from tests.support.policies import (
    access,
    backend,
    external,
    mesh,
    name,
    policies,
    route,
    rule,
    service,
    traffic,
)

NAMES = st.sampled_from(["a", "b", "c", "ops/a", "ops/b"])
BASES = NAMES.map(lambda each: InstanceSelector(service=name(each)))
TARGETS = st.one_of(NAMES, NAMES.map("external:{}".format))
PROTECTED = st.one_of(TARGETS, st.sampled_from(["namespace:default", "namespace:ops", "mesh:"]))
CALLERS = st.lists(st.sampled_from(["a", "b", "ops/a", "ops/*", "default/*"]), max_size=2)

POLICY = st.one_of(
    st.builds(
        service,
        NAMES,
        st.sampled_from([Protocol.HTTP, Protocol.TCP]),
        instances=st.none() | BASES,
        dependencies=st.none() | st.lists(NAMES.map(name), max_size=2).map(tuple),
    ),
    st.builds(
        lambda text, protocol: external(text, protocol=protocol),
        NAMES,
        st.sampled_from([Protocol.HTTP, Protocol.TCP]),
    ),
    st.builds(
        lambda text, on, action, callers: access(text, on, rule(action, *callers)),
        st.sampled_from(["p", "q", "ops/p"]),
        PROTECTED,
        st.sampled_from(Action),
        CALLERS,
    ),
    st.builds(
        lambda text, on, to: route(text, on, HTTPRule(backends=(backend(to),))),
        st.sampled_from(["r", "s", "ops/r"]),
        TARGETS,
        TARGETS,
    ),
    st.builds(
        lambda text, on, number: traffic(text, on, limits=Limits(retries=number)),
        st.sampled_from(["t", "u", "ops/t"]),
        TARGETS,
        st.integers(1, 3),
    ),
    st.builds(mesh, st.sampled_from(Default)),
)
MESHES = st.lists(POLICY, max_size=14, unique_by=lambda item: item.key)


def indexed(items: list[Policy]) -> Policies:
    """The policies as a revision has them, with what each refers to."""
    found = {}
    for key, applied in policies(*items).items():
        targets, uses, admits = index(applied.policy)
        entry = replace(applied.entry, targets=targets, uses=uses, admits=admits)
        found[key] = replace(applied, entry=entry)
    return found
