"""A sync as a process: once, or until a signal."""

import asyncio
import importlib.metadata
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mesh import log
from mesh.adapters.clock import SystemClock
from mesh.adapters.git import GitOptions, GitRepository, cache_name
from mesh.adapters.scrape import ScrapeEndpoint
from mesh.adapters.systemd import notify
from mesh.cli.sources import source_json
from mesh.cli.sync_outcomes import Lines, ReportFile, show_looked
from mesh.cli.wiring import make_store
from mesh.metrics.exposition import text
from mesh.metrics.health import build_info
from mesh.model.policy import Address
from mesh.model.source import SourceStatus
from mesh.settings import Settings
from mesh.sync.figures import figures
from mesh.sync.hook import Hook
from mesh.sync.options import SyncOptions, SyncPorts
from mesh.sync.service import SyncService
from mesh.sync.serving import serve
from mesh.sync.single import once
from mesh.sync.webhook import WebhookOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """What the command line says, ready to run. `hook` is a command, or nothing; `metrics` is
    where Prometheus scrapes a sync that goes on.
    """

    settings: Settings
    options: SyncOptions
    git: GitOptions
    report: Path | None
    hook: Sequence[str]
    as_json: bool
    metrics: Address | None = None

    def once(self) -> int:
        """Look once; the exit code."""
        return asyncio.run(self._once())

    def serve(self, webhook: WebhookOptions | None) -> None:
        """Follow the source until SIGTERM or Ctrl-C."""
        log.configure("info")
        lines = Lines(as_json=self.as_json)
        asyncio.run(
            serve(
                self.options,
                self._ports(lines),
                webhook=webhook,
                hook=self._hook(),
                beside=[_started, *([self._told] if self.metrics is not None else [])],
            )
        )

    async def _told(self, service: SyncService) -> None:
        """Answer Prometheus for as long as the sync works."""
        version = importlib.metadata.version("mesh")

        async def collect() -> str:
            found = figures(service.counters, self.options.source)
            return text((build_info("sync", version), *found))

        if self.metrics is not None:
            await ScrapeEndpoint(self.metrics, collect).run()

    async def _once(self) -> int:
        looked = await once(self.options, self._ports())
        show_looked(looked, as_json=self.as_json)
        hook = self._hook()
        if looked.error is None:
            return 0
        if hook is not None:
            await hook.run_once(looked.status)
        return looked.error.exit_code

    def _hook(self) -> Hook | None:
        return Hook(self.hook, _encode) if self.hook else None

    def _ports(self, lines: Lines | None = None) -> SyncPorts:
        clock = SystemClock()
        folder = self.settings.state / "sync" / cache_name(self.options.source, self.git.url)
        file = None if self.report is None else ReportFile(self.report)

        def tell(status: SourceStatus) -> None:
            for teller in (file, lines):  # who reads a line finds it in the file
                if teller is not None:
                    teller.tell(status)

        return SyncPorts(
            clock=clock,
            store=lambda: make_store(self.settings, clock),
            repository=lambda: GitRepository(folder, self.git),
            tell=tell,
        )


async def _started(service: SyncService) -> None:
    """A word to systemd: the sync works, or stands by."""
    await service.is_started.wait()
    notify("READY=1")


def _encode(status: SourceStatus) -> bytes:
    return json.dumps(source_json(status), ensure_ascii=False).encode()
