import json
import os
import subprocess
import sys
import tempfile

import pytest

from mesh.cli.agent import Agent
from mesh.cli.flags import Flags
from mesh.cli.sidecar_options import Given
from mesh.errors import OutsideError, UsageError

# A program that becomes itself again, and the second time tells what it was told.
TWICE = """
import json, os, sys
from mesh.cli import agent
from mesh.cli.flags import Flags
from mesh.cli.sidecar_options import Given

if agent.VARIABLE not in os.environ:
    given = Given(service="web", namespace="shop", tags=("a", "b"), meta=("k=v",), app=None,
                  inbound=None, outbound=None, id=None, upstreams=(), advertise=None)
    flags = Flags(state=sys.argv[1], verbose=True)
    agent.Agent(flags=flags, given=given, command=["echo", "--"], as_json=True).become()
found = agent._received()
print(json.dumps([os.getpid(), sys.argv[1:], found.flags.state, found.flags.verbose,
                  found.given.service, list(found.given.tags), found.command, found.as_json]))
print(json.dumps(dict(os.environ)))
"""
HEAVY = {"typer", "pydantic", "pydantic_core", "rich", "jsonschema_rs", "ruamel"}
HEAVY |= {"aiohttp", "requests", "urllib3"}
IMPORTS = """
import json, sys
import mesh.cli.agent, mesh.cli.announcement, mesh.cli.wiring
import mesh.sidecar.run, mesh.adapters.ads, mesh.adapters.envoy, mesh.adapters.embedded
import mesh.adapters.issuer, mesh.adapters.registered
import mesh.adapters.etcd, mesh.adapters.consul, mesh.adapters.ca_client
print(json.dumps([name.split(".")[0] for name in sys.modules]))
"""


def python(program: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("environment", [{}, {"MALLOC_ARENA_MAX": "4"}])
def test_an_agent_is_the_same_process_and_knows_what_was_parsed(environment, tmp_path):
    state = str(tmp_path)
    with python(TWICE, state, **environment) as child:
        out, _ = child.communicate(timeout=60)
        told, left = map(json.loads, out.splitlines())
    assert told == [child.pid, [state], state, True, "web", ["a", "b"], ["echo", "--"], True]
    assert left == dict(os.environ) | environment


def test_an_agent_has_no_parser_and_no_http_library_in_memory():
    with python(IMPORTS) as child:
        out, _ = child.communicate(timeout=60)
    assert HEAVY.isdisjoint(json.loads(out))


def test_a_wrong_word_is_told_before_anything_is_started(tmp_path):
    given = Given(
        service="Web",
        namespace="shop",
        app=None,
        inbound=None,
        outbound=None,
        meta=(),
        tags=(),
        id=None,
        upstreams=(),
        advertise=None,
    )
    with pytest.raises(UsageError, match="Web"):
        Agent(flags=Flags(state=str(tmp_path)), given=given).become()


def test_a_host_without_temporary_files_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    given = Given(
        service="web", namespace="shop", tags=(), meta=(), app=None, inbound=None, outbound=None,
        id=None, upstreams=(), advertise=None,
    )  # fmt: skip
    with pytest.raises(OutsideError, match="no folder for temporary files") as told:
        Agent(flags=Flags(state=str(tmp_path)), given=given).become()
    assert "TMPDIR" in told.value.hint
