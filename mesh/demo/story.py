"""The demo's story: each step does one thing to the running shop and checks what came of it."""

import asyncio
import json
import re
import signal
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import aiohttp

from mesh.demo.load import Tally, constant_load
from mesh.demo.stage import Output, Stage

CAST = (("stock", "v1"), ("api", "v1"), ("api", "v2"), ("web", "v1"))
CANARY_REQUESTS = 400
RELOADS = 5

Say = Callable[[str], None]


class Story:
    """The shop's steps, in order. `say` gets each line; `failed` collects what went wrong."""

    def __init__(self, stage: Stage, policies: Path, say: Say) -> None:
        self.stage = stage
        self.policies = policies
        self.failed: list[str] = []
        self._say = say
        self._start = stage.clock.monotonic()

    @property
    def front(self) -> str:
        """The shop's front door."""
        return f"http://127.0.0.1:{self.stage.members['web-v1'].app_port}/"

    async def tell(self) -> None:
        """Every step; one that breaks is noted and does not stop the others."""
        await self.open_the_shop()
        for step in (
            self.mutual_tls,
            self.canary,
            self.beta_header,
            self.forbidden_caller,
            self.bad_policy,
            self.hot_reload,
            self.agent_killed,
            self.roll_back,
        ):
            await self._guard(step)

    async def open_the_shop(self) -> None:
        """Apply the policies, start the cast, wait for the first answer through the mesh."""
        self._title("Three services, four instances, each with a sidecar of its own")
        said = ("--yes", "--no-wait", "--message", "open the shop")
        applied = await self.stage.mesh("apply", str(self.policies), *said)
        self._command('mesh apply policies/shop --yes --no-wait --message "open the shop"', applied)
        self.check("the policies are one revision", applied.code == 0, applied.err)
        async with asyncio.TaskGroup() as group:
            for service, version in CAST:
                group.create_task(self.stage.start(service, version))
        await self.stage.answers(self.front)
        took = self.stage.clock.monotonic() - self._start
        self.check(f"web -> api -> stock answers {took:.1f} s after the start", True)
        status = await self.stage.mesh("status")
        self._command("mesh status", status)
        self.check("every sidecar runs the revision", status.out.count("in-sync") == len(CAST))

    async def mutual_tls(self) -> None:
        """A plain request to an instance's inbound port gets nothing."""
        self._title("Between sidecars: mutual TLS, and nothing else")
        inbound = self.stage.members["api-v1"].inbound
        try:
            async with aiohttp.ClientSession() as session, session.get(f"http://{inbound}/") as got:
                said, refused = f"is answered with {got.status}", False
        except aiohttp.ClientError:
            said, refused = "is refused: the connection is closed", True
        self.check(f"a plain request to api's inbound port {said}", refused)

    async def canary(self) -> None:
        """90 of 100 requests go to v1."""
        self._title("Canary: 90 of 100 requests to v1, 10 to v2")
        seen: Counter[str] = Counter()
        async with aiohttp.ClientSession() as session:
            for _ in range(CANARY_REQUESTS):
                async with session.get(self.front) as answer:
                    body = await answer.json()
                    seen[body.get("asked", {}).get("version", f"status {answer.status}")] += 1
        share = 100 * seen["v2"] / CANARY_REQUESTS
        right = 4 <= share <= 17 and seen["v1"] + seen["v2"] == CANARY_REQUESTS
        counts = ", ".join(f"{count} to {what}" for what, count in sorted(seen.items()))
        self.check(f"{CANARY_REQUESTS} requests: {counts} ({share:.0f} % to v2)", right)

    async def beta_header(self) -> None:
        """Requests with `x-beta: 1` all go to v2."""
        self._title("A header decides: x-beta: 1 goes to v2")
        versions = set()
        async with aiohttp.ClientSession(headers={"x-beta": "1"}) as session:
            for _ in range(20):
                async with session.get(self.front) as answer:
                    versions.add((await answer.json()).get("asked", {}).get("version"))
        where = ", ".join(sorted(map(str, versions)))
        self.check(f"20 requests with the header: all to {where}", versions == {"v2"})

    async def forbidden_caller(self) -> None:
        """Web may only read; a service that no policy names may do nothing."""
        self._title("Default deny: what no rule allows does not happen")
        outbound = self.stage.members["web-v1"].outbound
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"http://{outbound}/items", headers={"host": "api"}) as answer,
        ):
            reason = answer.headers.get("x-mesh-reason")
            status = answer.status
        refused = (status, reason) == (403, "access-denied")
        self.check(f"web may read, not write: POST gets {status} {reason}", refused)
        call = ("-m", "mesh.demo.shop", "get", "http://api/items")
        ran = await self.stage.mesh("run", "--service", "stranger", "--", sys.executable, *call)
        said = (ran.out.strip().splitlines() or [ran.err[-200:]])[-1]
        unknown = ran.code == 1 and said.startswith("404 unknown-host")
        told = "404 unknown-host" if unknown else said
        self.check(f"a stranger does not even learn that api exists: {told}", unknown)

    async def bad_policy(self) -> None:
        """A misspelt field is refused at its line, and nothing is written."""
        self._title("A mistake is refused with its place, and nothing changes")
        before = await self._head()
        typo = self._edited({"retry:": "retires:"})
        applied = await self.stage.mesh("apply", str(typo), "--yes")
        self._command("mesh apply policies/shop --yes", applied)
        place = r"traffic\.yaml:\d+:\d+: error\[unknown-field\]"
        placed = re.search(place, applied.err + applied.out)
        same = await self._head() == before
        self.check("refused at file:line:column", applied.code == 1 and placed is not None)
        self.check("head did not move", same)

    async def hot_reload(self) -> None:
        """New revisions under load lose no request."""
        self._title("Change everything under load")
        async with constant_load(self.front) as tally:
            for round_ in range(RELOADS):
                weight = 10 + 15 * (round_ + 1)
                words = {"weight: 90": f"weight: {100 - weight}", "weight: 10": f"weight: {weight}"}
                note = f"{weight} % to v2"
                edited = self._edited(words)
                applied = await self.stage.mesh("apply", str(edited), "--yes", "--message", note)
                if applied.code != 0:
                    self.check(f"apply of weight {weight}", False, applied.err)
        self._no_failures(f"{RELOADS} revisions under load", tally)

    async def agent_killed(self) -> None:
        """Kill -9 of an agent: its Envoy serves on, the next agent adopts it."""
        self._title("kill -9 of api-v1's agent: the agent is not in the data path")
        member = self.stage.members["api-v1"]
        async with constant_load(self.front) as tally:
            member.agent.send_signal(signal.SIGKILL)
            await member.agent.wait()
            await self.stage.clock.sleep(timedelta(seconds=1))
            await self.stage.restart_agent(member)
            await self.stage.clock.sleep(timedelta(seconds=0.5))
        self._no_failures("agent killed, Envoy adopted by the next one", tally)

    async def roll_back(self) -> None:
        """The first revision's content becomes the newest revision."""
        self._title("Roll back to the first revision")
        rolled = await self.stage.mesh("rollback", "1", "--yes", "--message", "back to the start")
        self._command('mesh rollback 1 --yes --message "back to the start"', rolled)
        self.check("rolled back, every sidecar follows", rolled.code == 0, rolled.err)
        same = await self.stage.mesh("diff", "1", str(await self._head()))
        self.check("the same documents as in revision 1", same.code == 0 and "+" not in same.out)
        history = await self.stage.mesh("history")
        self._command("mesh history", history)

    def check(self, what: str, right: bool, detail: str = "") -> None:
        """Show one result; a wrong one is remembered."""
        self._say(f"  {'ok  ' if right else 'FAIL'}  {what}")
        if not right:
            self.failed.append(what)
            for line in detail.strip().splitlines()[-8:]:
                self._say(f"        {line}")

    async def _head(self) -> int:
        status = await self.stage.mesh("status", "--output", "json")
        with suppress(ValueError, KeyError):
            return int(json.loads(status.out)["head"])
        return -1

    def _edited(self, words: Mapping[str, str]) -> Path:
        """A copy of the policies with other words."""
        folder = self.stage.folder / "shop"
        folder.mkdir(exist_ok=True)
        for file in self.policies.glob("*.yaml"):
            text = file.read_text()
            for old, new in words.items():
                text = text.replace(old, new)
            (folder / file.name).write_text(text)
        return folder

    async def _guard(self, step: Callable[[], Awaitable[None]]) -> None:
        try:
            await step()
        except (OSError, aiohttp.ClientError, TimeoutError, ValueError) as error:
            self.check(f"{step.__name__}: {error!r}", False)

    def _no_failures(self, what: str, tally: Tally) -> None:
        self.check(f"{what}: {tally}", tally.failures == 0 and tally.total > 0)

    def _title(self, text: str) -> None:
        self._say(f"\n{text}")

    def _command(self, command: str, output: Output) -> None:
        self._say(f"  $ {command}")
        for line in (output.out + output.err).strip().splitlines()[:14]:
            self._say(f"    {line}")
