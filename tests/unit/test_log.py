"""Logging goes to standard error, one JSON object a line where nobody watches."""

import json
import subprocess
import sys

PROGRAM = """
import structlog
from mesh import log
log.configure("info")
logger = structlog.get_logger("x")
logger.debug("not wanted")
try:
    secret = "hidden value"
    raise ValueError("oh")
except ValueError:
    logger.exception("it failed", count=3)
"""


def test_lines_are_json_with_facts_and_without_local_variables():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    said = json.loads(line)
    assert (said["event"], said["level"], said["count"]) == ("it failed", "error", 3)
    assert "ValueError: oh" in said["exception"]
    assert "hidden value" not in line.replace('secret = "hidden value"', "")
    assert said["timestamp"].endswith("Z")
