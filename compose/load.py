"""Constant load on the demo's entry, every answer counted. Needs Python alone."""

import http.client
import json
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

WORKERS = 4
PAUSE_SECONDS = 0.03
ANSWER_SECONDS = 15.0
FLOW_SECONDS = 60.0


@dataclass
class Seen:
    """What requests got: how often each status (or failure), which version of api, the slowest."""

    answers: Counter[str] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0

    @property
    def total(self) -> int:
        """How many requests there were."""
        return self.answers.total()

    @property
    def failed(self) -> int:
        """How many did not get a 200."""
        return self.total - self.answers["200"]

    def __str__(self) -> str:
        parts = [f"{self.total} requests, {self.failed} failed"]
        parts += [f"{count} x {what}" for what, count in self.answers.items() if what != "200"]
        return f"{', '.join(parts)}; slowest {self.slowest * 1000:.0f} ms"


class Load:
    """Requests to `host` at 127.0.0.1:`port` until the block is left; a few connections that each
    ask, pause and ask again.
    """

    def __init__(self, port: int, host: str = "web") -> None:
        self._port = port
        self._host = host
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._seen = Seen()
        self._threads = [threading.Thread(target=self._work) for _ in range(WORKERS)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def take(self) -> Seen:
        """What was seen since the last time."""
        with self._lock:
            seen, self._seen = self._seen, Seen()
        return seen

    def wait(self, seconds: float) -> None:
        """Let so much time pass."""
        self._stop.wait(seconds)

    def after(self, requests: int) -> Seen:
        """What was seen since the last time, once there are so many more answers.

        Raises:
            TimeoutError: there are not, in a minute.
        """
        with self._lock:
            aim = self._seen.total + requests
        deadline = time.monotonic() + FLOW_SECONDS
        while self._seen.total < aim:
            if time.monotonic() > deadline:
                raise TimeoutError(f"fewer than {requests} answers in {FLOW_SECONDS:.0f} s")
            self._stop.wait(PAUSE_SECONDS)
        return self.take()

    def _work(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=ANSWER_SECONDS)
        while not self._stop.is_set():
            start = time.monotonic()
            what, version = ask(connection, self._host)
            took = time.monotonic() - start
            with self._lock:
                self._seen.answers[what] += 1
                self._seen.versions[version] += 1
                self._seen.slowest = max(self._seen.slowest, took)
            self._stop.wait(PAUSE_SECONDS)
        connection.close()


def ask(connection: http.client.HTTPConnection, host: str) -> tuple[str, str]:
    """One request: its status with the mesh's reason, or the failure; and who answered as api."""
    try:
        connection.request("GET", "/", headers={"host": host})
        answer = connection.getresponse()
        text = answer.read()
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        return type(error).__name__, ""
    reason = answer.headers.get("x-mesh-reason", "")
    if answer.status != 200:
        return f"{answer.status} {reason}".strip(), ""
    try:
        return "200", json.loads(text).get("asked", {}).get("version", "")
    except ValueError:
        return "no JSON", ""
