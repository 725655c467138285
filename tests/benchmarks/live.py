"""B7: from the commit of a route to its first answer at the proxy, on both stores.

One route at a time moves to a path that answered 404; another process asks for that path through
web's sidecar, on one connection without a pause. The clock starts when the store had taken head.
"""

import multiprocessing
import os
import random
import socket
from collections import Counter
from contextlib import ExitStack
from datetime import timedelta
from multiprocessing.connection import Connection
from time import monotonic

from tests.benchmarks import commits, harness, raw, sides

CHANGES = int(os.environ.get("MESH_BENCH_CHANGES", "200"))
# More than the least time between two compilations, and never in step with it.
PAUSE_SECONDS = (0.15, 0.35)

ROUTE = """
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: api}}
spec:
  parentRefs: [{{group: "", kind: Service, name: api}}]
  rules:
    - matches: [{{path: {{type: Exact, value: /{number}}}}}]
      backendRefs: [{{name: api, port: 80}}]
"""


def run() -> None:
    """Print p50, p99 and the worst of each store."""
    for name, store in commits.stores().items():
        with harness.workspace() as folder, ExitStack() as stack:
            settings = stack.enter_context(store(folder / "store"))
            (app,) = harness.free_ports(1)
            stack.enter_context(harness.envoy(raw.application(folder, app)))
            mesh = sides.Mesh(folder, settings)
            mesh.apply(sides.PAIR + ROUTE.format(number=0), "--no-wait")
            stack.enter_context(mesh.sidecar("api", app))
            web = stack.enter_context(mesh.sidecar("web"))
            harness.answers(web.outbound, "api", "/0")
            took, answers = commits.run(_measure(mesh, web.outbound))
        other = answers.total() - answers[200] - answers[404]
        milliseconds = sorted(1000 * each for each in took)
        p99 = harness.percentile(milliseconds, 0.99)
        print(
            f"  {name}: {len(took)} changes, commit -> live "
            f"p50 {harness.median(milliseconds):.1f}, p99 {p99:.1f}, "
            f"worst {milliseconds[-1]:.1f} ms; "
            f"{answers[404]} x 404, then 200, {other} other answers",
            flush=True,
        )


async def _measure(mesh: sides.Mesh, port: int) -> tuple[list[float], Counter[int]]:
    here, there = multiprocessing.Pipe()
    asker = multiprocessing.get_context("spawn").Process(target=ask, args=(there, port))
    asker.start()
    took: list[float] = []
    answers: Counter[int] = Counter()
    try:
        async with commits.committer(mesh) as committer:
            for number in range(1, CHANGES + 1):
                here.send(f"/{number}")
                here.recv()
                committed = await committer.commit(sides.PAIR + ROUTE.format(number=number))
                live, seen = here.recv()
                took.append(live - committed)
                answers.update(seen)
                pause = random.uniform(*PAUSE_SECONDS)
                await commits.CLOCK.sleep(timedelta(seconds=pause))
    finally:
        here.send("")
        asker.join(5)
        asker.kill()
    return took, answers


def ask(pipe: Connection, port: int) -> None:
    """Ask for each path that `pipe` brings until it answers 200; tell when, and what came before.

    A word goes back after the first answer too: from then on somebody is asking.
    """
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while path := pipe.recv():
            request = f"GET {path} HTTP/1.1\r\nHost: api\r\n\r\n".encode()
            seen: Counter[int] = Counter()
            while not seen[200]:
                seen[_status(connection, request)] += 1
                if seen.total() == 1:
                    pipe.send("asking")
            pipe.send((monotonic(), seen))


def _status(connection: socket.socket, request: bytes) -> int:
    """One request on a kept connection; its answer's status."""
    connection.sendall(request)
    got = b""
    while b"\r\n\r\n" not in got:
        got += _more(connection)
    head, _, body = got.partition(b"\r\n\r\n")
    length = 0
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    while len(body) < length:
        body += _more(connection)
    return int(head.split(b" ", 2)[1])


def _more(connection: socket.socket) -> bytes:
    got = connection.recv(65536)
    if not got:
        raise ConnectionError("the sidecar closed the connection")
    return got
