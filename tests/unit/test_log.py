import os
import pty
import subprocess
import sys

import pytest

FAILING = """
import sys
from mesh import log
import structlog
log.configure("info")
assert "rich" not in sys.modules
def sign(key):
    raise ValueError("no")
try:
    sign("s" + "ecret")
except ValueError:
    structlog.get_logger().exception("cannot sign")
"""


def read(descriptor: int) -> str:
    """All that was written to a pseudo-terminal whose writers are gone."""
    text = b""
    while True:
        try:
            block = os.read(descriptor, 65536)
        except OSError:
            break
        if not block:
            break
        text += block
    return text.decode()


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_traceback_shows_no_values(is_terminal: bool) -> None:
    ours, theirs = pty.openpty() if is_terminal else os.pipe()
    subprocess.run([sys.executable, "-c", FAILING], stderr=theirs, check=True)
    os.close(theirs)
    text = read(ours)
    os.close(ours)
    assert "cannot sign" in text
    assert "ValueError: no" in text
    assert "secret" not in text
