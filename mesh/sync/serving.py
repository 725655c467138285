"""`mesh sync` as a process: the service, its webhook and its hook, until a signal."""

import asyncio
import signal
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any

from mesh.model.source import SourceStatus
from mesh.operations.concurrency import first_leaf
from mesh.sync.hook import Hook
from mesh.sync.options import SyncOptions, SyncPorts
from mesh.sync.service import SyncService
from mesh.sync.webhook import Webhook, WebhookOptions

_ENDING = (signal.SIGTERM, signal.SIGINT)

Beside = Callable[[SyncService], Coroutine[Any, Any, None]]


async def serve(
    options: SyncOptions,
    ports: SyncPorts,
    *,
    webhook: WebhookOptions | None = None,
    hook: Hook | None = None,
    beside: Sequence[Beside] = (),
) -> None:
    """Follow the source until SIGTERM or SIGINT. `beside` is what else runs for as long.

    Raises:
        MeshError: the store was out of reach at the start, or the webhook's address is taken.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in _ENDING:
        loop.add_signal_handler(number, stop.set)
    try:
        await _until(stop, _work(options, ports, webhook, hook, beside))
    except BaseExceptionGroup as errors:
        raise first_leaf(errors) from None
    finally:
        for number in _ENDING:
            loop.remove_signal_handler(number)


def _work(
    options: SyncOptions,
    ports: SyncPorts,
    webhook: WebhookOptions | None,
    hook: Hook | None,
    beside: Sequence[Beside],
) -> list[Coroutine[Any, Any, None]]:
    def tell(status: SourceStatus) -> None:
        ports.tell(status)
        if hook is not None:
            hook.tell(status)

    service = SyncService(options, replace(ports, tell=tell))
    work = [service.run(), *(other(service) for other in beside)]
    if hook is not None:
        work.append(hook.run())
    if webhook is not None:
        work.append(Webhook(webhook, ports.clock, service.wake).run())
    return work


async def _until(stop: asyncio.Event, work: Sequence[Coroutine[Any, Any, None]]) -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(item) for item in work]
        await stop.wait()
        for task in tasks:
            task.cancel()
