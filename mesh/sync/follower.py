"""One look at the repository, and what follows from it for the mesh."""

from dataclasses import dataclass, replace
from datetime import timedelta

from mesh.errors import Conflict, InputError, LeaseLost, MeshError, OutsideError, StalePlan
from mesh.model.source import GitCommit, SourceStatus, SyncState
from mesh.operations.acceptance import Acceptance
from mesh.operations.apply import Terms, apply
from mesh.operations.plan import Prepared, prepare_reading
from mesh.operations.reading import Reading
from mesh.operations.sources import read_source
from mesh.operations.state import read_head
from mesh.planning import keyspace
from mesh.planning.record import parse_record
from mesh.ports import Clock, Repository, Store
from mesh.sync import reports
from mesh.sync.documents import read_commit
from mesh.sync.judgement import Case, Verdict, is_new, judge, rollback
from mesh.sync.options import SyncOptions

TRIES = 8
_PAUSE = timedelta(milliseconds=20)
_LOOK_BACK = 100


@dataclass(frozen=True, slots=True)
class Looked:
    """The report of a look. `error` is why the state is not SYNCED; `concerned` are the sidecars
    that a new revision touches, `acceptance` how far they are where somebody waited.
    """

    status: SourceStatus
    error: MeshError | None = None
    concerned: tuple[str, ...] = ()
    acceptance: Acceptance | None = None


@dataclass(frozen=True, slots=True)
class _Before:
    """What a look starts from: the last report, and the mesh's head."""

    last: SourceStatus | None
    head: int


class Follower:
    """Follows one source. `fence` is what must hold in the store while a commit is applied."""

    def __init__(
        self, options: SyncOptions, store: Store, clock: Clock, repository: Repository
    ) -> None:
        self._options = options
        self._store = store
        self._clock = clock
        self._repository = repository
        self._resume = options.resume
        self._read: tuple[str, Reading] | None = None
        self.fence: dict[str, int] = {}

    async def look(self, *, wait: bool = False) -> Looked:
        """Fetch, and apply what is to be applied; with `wait` the sidecars concerned are waited
        for. What is wrong with the repository or the commit is in the report.

        Raises:
            OutsideError: the store failed.
            StalePlan: others commit to the mesh all the time.
            LeaseLost: another sync leads by now; nothing was written.
        """
        last = await read_source(self._store, self._options.source)
        head, _ = await read_head(self._store)
        before = _Before(last, head.revision.number if head else 0)
        commit: GitCommit | None = None
        try:
            commit = await self._repository.newest()
            if self._options.require_signature:
                await self._repository.verify(commit)
            reading = await self._documents(commit)
        except OutsideError as error:
            return self._unreachable(before, error)
        except InputError as error:
            return await self._refused(before, commit, error)
        try:
            return await self._settle(before, commit, reading, wait=wait)
        except StalePlan:
            raise
        except Conflict as error:
            raise LeaseLost("another sync of the source leads by now") from error
        except InputError as error:
            return await self._refused(before, commit, error)

    async def _documents(self, commit: GitCommit) -> Reading:
        if self._read is None or self._read[0] != commit.id:
            reading = await read_commit(self._repository, commit, self._options.path)
            self._read = (commit.id, reading)
        return self._read[1]

    async def _settle(
        self, before: _Before, commit: GitCommit, reading: Reading, *, wait: bool
    ) -> Looked:
        """Plan and carry out; anew while others commit in between."""
        last = before.last
        if last and not self._resume and reports.is_final(last, commit, before.head):
            status = replace(last, checked=self._clock.now())
            return Looked(status, reports.standing_error(last))
        held = await self._held(before, commit)
        for attempt in range(TRIES):
            prepared = await self._plan(reading)
            case = Case(
                commit=commit,
                last=last,
                differs=bool(prepared.plan.changes),
                held=held,
                drift=self._options.drift,
                resume=self._resume,
            )
            try:
                return await self._carry_out(case, prepared, wait=wait)
            except StalePlan:
                if attempt == TRIES - 1:
                    raise
                await self._clock.sleep(_PAUSE * 2**attempt)
        raise AssertionError("the last try returns or raises")

    async def _plan(self, reading: Reading) -> Prepared:
        options = self._options
        given = f'"{options.path or "."}" of {options.repository}, branch "{options.branch}"'
        return await prepare_reading(
            self._store, reading, options.source, given, allow_empty=options.allow_empty
        )

    async def _held(self, before: _Before, commit: GitCommit | None) -> int:
        """The rollback since this very commit was seen, or 0."""
        last = before.last
        if last is None or (commit is not None and is_new(commit, last)):
            return 0
        numbers = range(max(last.head, before.head - _LOOK_BACK) + 1, before.head + 1)
        entries = await self._store.fetch([keyspace.revision(number) for number in numbers])
        found = (parse_record(entry.value).revision for entry in entries.values())
        return rollback(found, self._options.source) or last.held

    async def _carry_out(self, case: Case, prepared: Prepared, *, wait: bool) -> Looked:
        match judge(case):
            case Verdict.APPLY:
                looked = await self._apply(case, prepared, wait=wait)
                self._resume = False
                return looked
            case Verdict.SETTLED:
                self._resume = False
                return self._settled(case, prepared)
            case Verdict.HOLD:
                return self._kept(case, prepared, SyncState.HELD)
            case Verdict.SHOW:
                return self._kept(case, prepared, SyncState.DRIFTED)

    def _settled(self, case: Case, prepared: Prepared) -> Looked:
        base = prepared.plan.base
        report = self._report(case.last, case.commit, SyncState.SYNCED)
        number = report.revision or base
        return Looked(reports.good(report, case.commit, number, base, prepared.diagnostics))

    def _kept(self, case: Case, prepared: Prepared, state: SyncState) -> Looked:
        report = self._report(case.last, case.commit, state)
        held = case.held if state is SyncState.HELD else 0
        plan = prepared.plan
        return Looked(*reports.kept(report, plan.changes, plan.base, held))

    async def _apply(self, case: Case, prepared: Prepared, *, wait: bool) -> Looked:
        commit = case.commit
        prepared = replace(prepared, plan=replace(prepared.plan, commit=commit.id))
        terms = Terms(
            message=commit.subject,
            author=commit.author,
            fence=self.fence,
            within=self._options.patience if wait else None,
        )
        outcome = await apply(self._store, self._clock, prepared, terms, lambda _: None)
        number = outcome.revision
        report = self._report(case.last, commit, SyncState.SYNCED)
        return Looked(
            reports.good(report, commit, number, number, prepared.diagnostics),
            concerned=tuple(item.id for item in prepared.impact),
            acceptance=outcome.acceptance if outcome.waited else None,
        )

    async def _refused(
        self, before: _Before, commit: GitCommit | None, error: InputError
    ) -> Looked:
        """Nothing changes; a rollback before this very commit does not hold it later."""
        held = await self._held(before, commit)
        known = commit or (before.last.commit if before.last else None)
        report = reports.told(self._report(before.last, known, SyncState.REFUSED), error)
        return Looked(replace(report, head=before.head, held=held), error)

    def _unreachable(self, before: _Before, error: OutsideError) -> Looked:
        """As if we had not looked, but for the words: what was not seen is new when it is."""
        last = before.last
        report = self._report(last, last.commit if last else None, SyncState.UNREACHABLE)
        return Looked(replace(reports.told(report, error), held=last.held if last else 0), error)

    def _report(
        self, last: SourceStatus | None, commit: GitCommit | None, state: SyncState
    ) -> SourceStatus:
        return reports.blank(self._options, last, commit, state, self._clock.now())
