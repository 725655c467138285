"""The tour: what each step does, and what requests may see of it. Needs Python and Compose."""

import argparse
import http.client
import json
import signal
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

from compose.engine import Failure, published, require_engine
from compose.load import Load, Seen, ask
from compose.stage import HERE, KILL_AGENT, Stage, until

OFFERS = """\
apiVersion: mesh/v1
kind: AccessPolicy
metadata:
  name: offers
spec:
  targetRefs:
    - kind: Service
      name: offers
  rules:
    - name: everybody-looks
      action: allow
      from:
        - service: entry
"""
TARGETS = 11
# Requests: enough to see a failure, and to tell a share.
SOME, MANY = 50, 200
# How long something stays away.
QUIET_SECONDS = 5
REGISTER = """
import urllib.error, urllib.request
url = "http://consul-agent:8500/v1/agent/service/register"
request = urllib.request.Request(url, b'{"Name": "web"}', method="PUT")
try:
    print(urllib.request.urlopen(request).status)
except urllib.error.HTTPError as error:
    print(error.code)
"""


class Tour:
    """The steps in order; `wrong` collects what was not as it should be."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.wrong: list[str] = []
        self.load = Load(stage.entry)
        self._start = time.monotonic()

    def tell(self) -> None:
        """The whole tour; a step that breaks is noted, and the next one is tried."""
        self._title("etcd, Consul, a certificate authority, git, and six hosts of a shop")
        self.stage.up()
        with self.stage.watching():
            self.open_the_shop()
            with self.load:
                for step in (
                    self.strangers,
                    self.commit_goes_live,
                    self.canary,
                    self.bad_commit,
                    self.deny,
                    self.kill_etcd_leader,
                    self.kill_consul,
                    self.kill_ca,
                    self.kill_agent,
                    self.pause_host,
                    self.watch,
                    self.roll_back,
                ):
                    self._guard(step)

    # --- the steps ---------------------------------------------------------------------------

    def open_the_shop(self) -> None:
        """Everything is started; the first commit is the first revision."""
        until("the shop answers", lambda: self._get("web") == "200", 90)
        until("everybody runs head", lambda: self.stage.is_in_sync(1))
        self._check(f"the shop answers {time.monotonic() - self._start:.0f} s after the start")
        self._show(self.stage.mesh("status"))

    def strangers(self) -> None:
        """Nobody is served without a certificate or token, or from another machine."""
        self._title("Strangers are refused")
        store = "etcd://etcd1:2379/mesh?cacert=/run/mesh/ca.pem"
        self._refused("etcd without a certificate", "refuses this client", store)
        mine = "&cert=/run/mesh/mesh.pem&key=/run/mesh/mesh.key"
        others = f"{store}{mine}".replace("/mesh?", "/others?")
        self._refused("etcd, keys that are not the mesh's", "permission denied", others)
        answer = self.stage.inside("sync", "python3", "-c", REGISTER).strip()
        self._check(f"Consul without a token: {answer}", answer == "403")
        ports = published(self.stage.project)
        is_private = bool(ports) and all(port.startswith("127.0.0.1:") for port in ports)
        self._check(f"ports of this machine: {', '.join(ports)}", is_private)

    def commit_goes_live(self) -> None:
        """A commit opens a service to the outside."""
        self._title("Policies are applied by a git commit")
        before = self._get("offers")
        self._check(f"outside, nobody knows of offers: {before}", before == "404 unknown-host")
        commit = self.stage.commit("Open the offers", "offers.yaml", OFFERS)
        took = until("offers answer", lambda: self._get("offers") == "200")
        self._check(f"commit {commit[:9]}: offers answer {took:.1f} s later")
        self._no_failures(self.load.after(SOME))
        newest = json.loads(self.stage.mesh("history", "--output", "json"))[0]
        told = f"{newest['commit'][:9]} by {newest['author']}: {newest['message']}"
        self._check(f"history: revision {newest['revision']} is {told}", newest["commit"] == commit)

    def canary(self) -> None:
        """Weights shift, and requests with them."""
        self._title("A canary: version 2 of api from a tenth to a half")
        before = self._share(self.load.after(MANY))
        text = (HERE / "policies" / "routes.yaml").read_text(encoding="utf-8")
        half = text.replace("weight: 90", "weight: 50").replace("weight: 10", "weight: 50")
        self._apply("Half of the requests to v2", "routes.yaml", half)
        self._no_failures(self.load.take())
        after = self._share(self.load.after(MANY))
        right = 2 <= before <= 20 and 35 <= after <= 65
        self._check(f"{before:.0f} % of the requests on v2 before, {after:.0f} % after", right)

    def bad_commit(self) -> None:
        """A mistake changes nothing."""
        self._title("A commit with a mistake changes nothing")
        head = self.stage.status()["head"]
        wrong = OFFERS.replace("action: allow", "acton: allow")
        self.stage.commit("A typo", "offers.yaml", wrong)
        until("status shows the mistake", lambda: "acton" in self._sources())
        self._check("status shows it", self.stage.status()["head"] == head)
        self._show("\n".join(self._lines_with("acton", self.stage.mesh("status"))))
        self.stage.revert()
        until("the mistake is gone", lambda: "acton" not in self._sources())
        self._no_failures(self.load.after(SOME))

    def deny(self) -> None:
        """Access is taken away and given back."""
        self._title("Deny: web may no longer ask api; then it may again")
        text = (HERE / "policies" / "access.yaml").read_text(encoding="utf-8")
        self._apply("Nobody asks api", "access.yaml", text.replace("GET", "PUT", 1))
        until("web is refused", lambda: self._get("web").startswith("403"))
        self.load.take()
        denied = self.load.after(SOME)
        self._check(f"everybody is refused: {denied}", set(denied.answers) == {"403"})
        head = self.stage.status()["head"]
        self.stage.revert()
        until("everybody runs it", lambda: self.stage.is_in_sync(head + 1))
        until("web may ask", lambda: self._get("web") == "200")
        self.load.take()
        self._no_failures(self.load.after(SOME))

    def kill_etcd_leader(self) -> None:
        """The store loses its leader; a commit goes live all the same."""
        leader = self.stage.etcd_leader()
        self._title(f"kill -9 of {leader}, etcd's leader, and a commit right after")
        with self.stage.without(leader):
            text = (HERE / "policies" / "traffic.yaml").read_text(encoding="utf-8")
            took = self._apply("While etcd elects", "traffic.yaml", text.replace("5s", "6s"))
            self._check(f"the commit is live {took:.1f} s later, on two members")
        self._no_failures(self.load.after(SOME))

    def kill_consul(self) -> None:
        """Discovery goes away and comes back."""
        self._title("kill -9 of Consul's server and its agent")
        with self.stage.without("consul", "consul-agent"):
            until("the sidecars say so", lambda: "onsul" in self._messages())
            self.load.wait(QUIET_SECONDS)
            self._no_failures(self.load.take())
        head = self.stage.status()["head"]
        until("they are content again", lambda: self.stage.is_in_sync(head))
        self._no_failures(self.load.after(SOME), "until after its return")

    def kill_ca(self) -> None:
        """The authority goes away; a restarted sidecar does not need it."""
        self._title("kill -9 of the certificate authority, and a new start of a sidecar meanwhile")
        with self.stage.without("ca"):
            self.stage.docker("restart", "stock-a-sidecar")
            head = self.stage.status()["head"]
            until("the sidecar is back", lambda: self.stage.is_in_sync(head))
        self._no_failures(self.load.after(SOME))

    def kill_agent(self) -> None:
        """The agent is not in the data path."""
        self._title("kill -9 of api-v1's agent: its Envoy serves on, the next agent adopts it")
        self.stage.inside("api-v1-sidecar", "python3", "-c", KILL_AGENT)
        adopted = lambda: "envoy adopted" in self.stage.logs("api-v1-sidecar")  # noqa: E731
        until("the next agent has adopted it", adopted)
        self._no_failures(self.load.after(SOME))

    def pause_host(self) -> None:
        """A host freezes; the other one takes over."""
        self._title("A host freezes (docker pause): stock-b and its sidecar")
        self.stage.docker("pause", "stock-b", "stock-b-sidecar")
        self.load.wait(QUIET_SECONDS)
        self._no_failures(self.load.after(SOME), "while it is frozen")
        self.stage.docker("unpause", "stock-b", "stock-b-sidecar")
        head = self.stage.status()["head"]
        until("it is back in the mesh", lambda: self.stage.is_in_sync(head))
        self._no_failures(self.load.after(SOME), "after it thawed")

    def watch(self) -> None:
        """Prometheus has seen all of it."""
        self._title("Prometheus scrapes the sidecars, the authority and etcd")
        until("every target is up", lambda: self._query("sum(up)") == TARGETS)
        asked = self._query("sum(mesh_requests_total)")
        self._check(
            f"{TARGETS} targets are up; the sidecars counted {asked:.0f} requests", asked > 0
        )

    def roll_back(self) -> None:
        """An old revision's content is the newest revision; sync holds still."""
        self._title("Roll back to the first revision")
        self.stage.mesh("rollback", "1", "--yes")
        self._no_failures(self.load.take())
        after = self._get("offers")
        self._check(f"offers are closed again: {after}", after == "404 unknown-host")
        share = self._share(self.load.after(MANY))
        self._check(f"{share:.0f} % of the requests on v2 again", 2 <= share <= 20)
        self._check("sync holds the branch until a newer commit", "held" in self._sources())

    # --- how it is done and told -------------------------------------------------------------

    def _apply(self, message: str, name: str, text: str) -> float:
        head = self.stage.status()["head"]
        start = time.monotonic()
        self.stage.commit(message, name, text)
        until("everybody runs it", lambda: self.stage.is_in_sync(head + 1))
        return time.monotonic() - start

    def _refused(self, what: str, why: str, store: str) -> None:
        try:
            self.stage.inside("sync", "env", f"MESH_STORE={store}", "mesh", "status")
        except Failure as failure:
            said = str(failure).partition("\n")[2].strip().splitlines()[0]
            self._check(f"{what}: {said}", why in said)
        else:
            self._check(f"{what}: served", False)

    def _sources(self) -> str:
        return json.dumps(self.stage.status()["sources"])

    def _messages(self) -> str:
        return json.dumps([one["message"] for one in self.stage.status()["sidecars"]])

    def _get(self, host: str) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.stage.entry, timeout=5)
        what, _ = ask(connection, host)
        connection.close()
        return what

    def _query(self, expression: str) -> float:
        query = urllib.parse.urlencode({"query": expression})
        url = f"http://127.0.0.1:{self.stage.prometheus}/api/v1/query?{query}"
        with urllib.request.urlopen(url, timeout=5) as answer:
            result = json.load(answer)["data"]["result"]
        return float(result[0]["value"][1]) if result else 0.0

    @staticmethod
    def _share(seen: Seen) -> float:
        known = seen.versions["v1"] + seen.versions["v2"]
        return 100 * seen.versions["v2"] / max(1, known)

    @staticmethod
    def _lines_with(word: str, text: str) -> list[str]:
        return [line for line in text.splitlines() if word in line]

    def _no_failures(self, seen: Seen, when: str = "") -> None:
        self._check(f"{seen}{' ' + when if when else ''}", seen.failed == 0 and seen.total > 0)

    def _guard(self, step: Callable[[], None]) -> None:
        try:
            step()
        except (Failure, OSError, ValueError, LookupError) as error:
            self._check(f"{step.__name__}: {error}", False)

    def _check(self, what: str, is_right: bool = True) -> None:
        print(f"  {'ok  ' if is_right else 'FAIL'}  {what}", flush=True)
        if not is_right:
            self.wrong.append(what)

    def _title(self, text: str) -> None:
        """Name a step; what requests see from here on is this step's."""
        print(f"\n{text}  [{time.monotonic() - self._start:.0f} s]", flush=True)
        self.load.take()

    def _show(self, text: str) -> None:
        for line in text.strip().splitlines():
            print(f"        {line}", flush=True)


def main() -> int:
    """0: the tour went as it should; 1: it did not; 3: it could not begin; 130: broken off."""
    parser = argparse.ArgumentParser(prog="compose/tour", description=__doc__)
    parser.add_argument("--local", action="store_true", help="the images of `make images`")
    parser.add_argument("--env-file", type=Path, help="other images: see local.env")
    parser.add_argument("--keep", action="store_true", help="leave it running")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        require_engine()
        stage = Stage(HERE / "local.env" if options.local else options.env_file)
    except Failure as failure:
        print(f"tour: {failure}", file=sys.stderr)
        return 3
    tour = Tour(stage)
    code = 0
    try:
        tour.tell()
    except Failure as failure:
        tour.wrong.append(str(failure))
        print(f"\n{stage.logs()}", file=sys.stderr)
    except KeyboardInterrupt:
        print("\nbroken off: removing what was started", file=sys.stderr, flush=True)
        code = 130
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        left = [] if options.keep else stage.down()
    if left:
        tour.wrong.append(f"left behind: {' '.join(left)}")
    if tour.wrong or not code:
        print("\n" + ("\n".join(f"WRONG  {what}" for what in tour.wrong) or "all as it should be"))
    return code or int(bool(tour.wrong))


if __name__ == "__main__":
    sys.exit(main())
