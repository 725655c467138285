"""Planning: what a set of documents would do to the mesh, and to which sidecars."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mesh.diagnostics import Diagnostic
from mesh.errors import InputError, InvalidDocuments
from mesh.model.revision import Manifest
from mesh.model.status import SidecarStatus
from mesh.operations.drafting import draft
from mesh.operations.provenance import commit_of
from mesh.operations.reading import read_paths
from mesh.operations.sidecars import concerned, read_members
from mesh.operations.state import State, read_objects, read_state
from mesh.operations.trust import check_trust_domain
from mesh.planning.links import newly_dangling
from mesh.planning.plan import Plan, carry_out, detail, diff
from mesh.ports import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A plan, the state it was made at, the live sidecars that it touches and warnings."""

    plan: Plan
    state: State
    impact: tuple[SidecarStatus, ...] = ()
    live: int = 0
    diagnostics: tuple[Diagnostic, ...] = ()


async def prepare(
    store: Store, paths: Sequence[str], source: str, *, allow_empty: bool = False
) -> Prepared:
    """Plan that `source` owns exactly the documents in `paths`.

    Raises:
        InvalidDocuments: the documents have mistakes, alone or beside those of other sources.
        InputError: there is no document at all.
    """
    reading = await asyncio.to_thread(read_paths, paths)
    state = await read_state(store)
    others = {entry.key: entry for entry in state.manifest.values() if entry.source != source}
    objects = await read_objects(store, {entry.digest for entry in others.values()})
    drafted = draft(reading, existing=others, objects=objects)
    if not drafted.documents and not allow_empty:
        raise InputError(
            "there is no document in " + " ".join(f'"{path}"' for path in paths),
            f'this would delete all that "{source}" owns; if that is meant, give --allow-empty',
        )
    plan = diff(
        state.manifest, drafted.desired, base=state.number, change=state.change, source=source
    )
    refuse_dangling(state.manifest, plan)
    await check_trust_domain(store, state.manifest, plan)
    changes = detail(plan.changes, {**plan.objects, **await _old_objects(store, plan)})
    commit = await asyncio.to_thread(commit_of, paths)
    plan = replace(plan, changes=changes, commit=commit, documents=drafted.documents)
    return await with_impact(store, plan, state, drafted.diagnostics)


def refuse_dangling(current: Manifest, plan: Plan) -> None:
    """Refuse a plan that takes away what documents it leaves alone refer to.

    Raises:
        InvalidDocuments: it would; each is told.
    """
    found = newly_dangling(current, carry_out(current, plan))
    if found:
        raise InvalidDocuments(found, plan.documents)


async def with_impact(
    store: Store, plan: Plan, state: State, diagnostics: tuple[Diagnostic, ...] = ()
) -> Prepared:
    """The plan with the live sidecars that it touches."""
    found = await read_members(store)
    after = carry_out(state.manifest, plan)
    return Prepared(
        plan=plan,
        state=state,
        impact=concerned(found, state.manifest, after, plan.keys),
        live=sum(member.is_alive for member in found),
        diagnostics=diagnostics,
    )


async def _old_objects(store: Store, plan: Plan) -> dict[str, bytes]:
    """The old side of every update; the plan itself has the new one."""
    digests = {
        change.before.digest
        for change in plan.changes
        if change.before is not None and change.after is not None
    }
    return await read_objects(store, digests)
