"""An agent's CPU for one commit, by stage, beside parsing and hashing the same resources' bytes.

In one process and without a store: a commit's record and what is enclosed with it, to the snapshot.
The mesh grows, what the sidecar may call does not (B5). Medians of process time; the first commit,
which finds nothing of an earlier one, beside them: an agent's start has it once.
"""

import hashlib
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from time import process_time
from typing import TypeVar

from mesh.compiler.assemble import MESSAGES, Assembler
from mesh.compiler.scope import Reach
from mesh.model.policy import Policy, Timeouts
from mesh.model.revision import Policies, Revision
from mesh.model.snapshot import Snapshot
from mesh.planning import manifest, record
from mesh.planning.enclosure import enclose, enclosed
from mesh.planning.scope import Scopes
from tests.support import sidecars
from tests.support.meshes import indexed
from tests.support.policies import allow, name, service, traffic

COMMITS = 60
CALLED = 5
OWN = name("s0")

T = TypeVar("T")


@dataclass(slots=True)
class Stages:
    """Process time of each stage, in milliseconds, commit by commit."""

    spent: dict[str, list[float]] = field(default_factory=dict)

    def of(self, stage: str, work: Callable[[], T]) -> T:
        """Do some work and note what it cost."""
        began = process_time()
        result = work()
        self.spent.setdefault(stage, []).append(1000 * (process_time() - began))
        return result

    def __str__(self) -> str:
        first = sum(spent[0] for stage, spent in self.spent.items() if stage != "raw")
        medians = {stage: statistics.median(spent) for stage, spent in self.spent.items()}
        anchor = medians.pop("raw")
        total = sum(medians.values())
        parts = ", ".join(f"{stage} {cost:.2f}" for stage, cost in medians.items())
        return (
            f"{total:.2f} ms ({parts}); raw {anchor:.2f} ms, ratio {total / anchor:.1f}; "
            f"the first {first:.1f} ms, ratio {first / anchor:.1f}"
        )


def run() -> None:
    """Print the cost of commits that concern the sidecar, and of those that do not."""
    for size in (10, 100, 1000):
        for changed, what in (("s1", "concerns it"), (f"s{size - 1}", "does not")):
            print(
                f"  {size} services, a commit that {what}: {_measured(size, changed)}", flush=True
            )


def _measured(size: int, changed: str) -> Stages:
    stages, scopes, assembler = Stages(), Scopes({}), Assembler()
    authority = sidecars.Authority()
    known = {"svid": authority.svid(OWN), "bundle": authority.bundle}
    place = sidecars.placement("s0", app=8080)
    instances = sidecars.catalog(
        *(sidecars.endpoint(f"s{n}", 1000 + i, i) for n in range(1, CALLED + 1) for i in range(5))
    )
    old: dict[str, bytes] = {}
    for number, policies in enumerate(_commits(size, changed), start=1):
        written = manifest.write({k: a.entry for k, a in policies.items()}, _revision(number), "c")
        new = {digest: data for digest, data in written.parts.items() if digest not in old}
        enclosure, old = enclose(new), dict(written.parts)

        def read() -> Policies:
            record.parse_record(written.record)  # noqa: B023 - called at once
            for digest, data in (new | enclosed(enclosure)).items():  # noqa: B023
                part = manifest.parse_part(digest, data)
                for entry in part.entries if isinstance(part, manifest.Chunk) else ():
                    scopes.put(entry)
            return {key: policies[key] for key in sorted(scopes.closure(OWN))}  # noqa: B023

        scoped = stages.of("read", read)
        view = stages.of(
            "view",
            lambda: Reach(scoped, OWN).view(  # noqa: B023
                revision=number,  # noqa: B023
                catalog=instances,
                placement=place,
                **known,
            ),
        )
        made = stages.of("compile", lambda: assembler.compile(view))  # noqa: B023
        stages.of("raw", lambda: _raw(made))  # noqa: B023
    return stages


def _commits(size: int, changed: str) -> Iterator[Policies]:
    fixed: list[Policy] = [service(f"s{number}") for number in range(size)]
    fixed += [
        allow(f"s{number}", "s0" if number <= CALLED else f"s{number - 1}")
        for number in range(1, size)
    ]
    for beat in range(COMMITS):
        timeouts = Timeouts(request=timedelta(milliseconds=1000 + beat))
        yield indexed([*fixed, traffic("t", changed, timeouts=timeouts)])


def _revision(number: int) -> Revision:
    return Revision(
        number=number,
        parent=number - 1,
        time=datetime(2026, 3, 1, tzinfo=UTC),
        author="bench",
        message="",
        source="main",
        commit=None,
        created=0,
        updated=1,
        deleted=0,
    )


def _raw(snapshot: Snapshot) -> None:
    for kind, resources in snapshot.resources.items():
        for resource in resources.values():
            MESSAGES[kind]().ParseFromString(resource.body)
            hashlib.sha256(resource.body).hexdigest()
