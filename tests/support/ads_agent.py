"""An agent as a process of its own: serves one snapshot until it is killed.

`python -m tests.support.ads_agent SOCKET LISTENER_PORT APP_PORT`; prints a line per acknowledged
generation.
"""

import asyncio
import sys
from pathlib import Path

from mesh.adapters.ads import AdsServer
from tests.support.envoy_resources import cluster, endpoints, http_listener, route, snapshot


async def serve(socket: str, port: int, app_port: int) -> None:
    server = AdsServer(Path(socket))
    server.publish(
        snapshot(
            [
                cluster("app"),
                endpoints("app", [app_port]),
                http_listener("web", port, "web"),
                route("web", "app"),
            ]
        )
    )
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.run())
        async for outcome in server.acknowledgements():
            sys.stdout.write(f"{outcome.generation}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
