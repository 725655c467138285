"""Turn Consul's access rules into tokens: one for its agents, one for the sidecars, once.

consul_acl.py SERVER_URL CLIENT_URL TOKEN_FILE
"""

import json
import os
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

WAIT_SECONDS = 60.0
USER = 10001
RULES = {
    "agents": 'node_prefix "" { policy = "write" } service_prefix "" { policy = "read" }',
    "sidecars": 'service_prefix "" { policy = "write" } node_prefix "" { policy = "read" }',
}


def put(url: str, path: str, body: object = None, token: str = "") -> dict[str, str]:
    """A PUT that is repeated until Consul is there; its JSON."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        request = urllib.request.Request(
            f"{url}/v1/{path}",
            method="PUT",
            data=json.dumps(body).encode() if body is not None else None,
            headers={"x-consul-token": token} if token else {},
        )
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                text = answer.read()
                return json.loads(text) if text.strip() else {}
        except urllib.error.HTTPError as error:
            last = f"{error.code} {error.read().decode(errors='replace').strip()}"
            is_final = error.code == 403 and "no longer allowed" in last
        except OSError as error:
            last, is_final = str(error), False
        if is_final or time.monotonic() > deadline:
            sys.exit(f"consul-acl: {path}: {last}")
        threading.Event().wait(0.3)


def main(server: str, client: str, file: str) -> None:
    """Make the tokens; the file is written last, so that it says that all is done."""
    if Path(file).is_file():
        return
    management = put(server, "acl/bootstrap")["SecretID"]
    tokens = {}
    for name, rules in RULES.items():
        put(server, "acl/policy", {"Name": name, "Rules": rules}, management)
        body = {"Description": name, "Policies": [{"Name": name}]}
        tokens[name] = put(server, "acl/token", body, management)["SecretID"]
    for agent in (server, client):
        put(agent, "agent/token/agent", {"Token": tokens["agents"]}, management)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "w") as place:
        place.write(tokens["sidecars"] + "\n")
    os.chown(file, USER, USER)


if __name__ == "__main__":
    main(*sys.argv[1:])
