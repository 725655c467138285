"""Servers that do not answer, want a password or are not there: each is told, none is waited on."""

import http.server
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mesh.adapters.git import GitOptions, GitRepository, Limits
from mesh.errors import Denied, MeshError, Unavailable


async def refused(url: str, folder: Path, seconds: float = 60.0) -> MeshError:
    """What a look at a repository says that cannot be had."""
    options = GitOptions(url=url, limits=Limits(seconds=seconds))
    async with GitRepository(folder / "cache", options) as git:
        with pytest.raises(MeshError) as told:
            await git.newest()
    return told.value


@contextmanager
def silent() -> Iterator[int]:
    """A port where connections are taken and nothing is ever said: as a black hole."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@contextmanager
def asking() -> Iterator[int]:
    """A web server that wants a password for everything."""

    class Ask(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="policies"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Ask) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("url", ["http://127.0.0.1:{}/mesh.git", "git://127.0.0.1:{}/mesh.git"])
async def test_a_server_that_says_nothing_is_left_in_time(url: str, tmp_path: Path) -> None:
    with silent() as port:
        error = await refused(url.format(port), tmp_path, seconds=0.5)
    assert isinstance(error, Unavailable)
    assert error.message == "`git fetch` took more than 0.5 s"


@pytest.mark.parametrize("scheme", ["http", "git"])
async def test_a_port_where_nobody_listens_is_told(scheme: str, tmp_path: Path) -> None:
    with silent() as port:
        pass
    error = await refused(f"{scheme}://127.0.0.1:{port}/mesh.git", tmp_path)
    assert isinstance(error, Unavailable)
    assert f'"{scheme}://127.0.0.1:{port}/mesh.git" does not answer' in error.message
    assert error.hint == f"try: git ls-remote {scheme}://127.0.0.1:{port}/mesh.git"


async def test_a_password_is_never_asked_for(tmp_path: Path) -> None:
    with asking() as port:
        error = await refused(f"http://127.0.0.1:{port}/mesh.git", tmp_path)
        assert isinstance(error, Denied)
        assert "refuses" in error.message
        wrong = await refused(f"http://ann:hunter2@127.0.0.1:{port}/mesh.git", tmp_path)
    assert isinstance(wrong, Denied)
    assert "hunter2" not in wrong.message + wrong.hint


async def test_a_passphrase_is_never_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What ssh does with a key that has one: it asks on the terminal, if there is any.
    ssh = tmp_path / "ssh"
    ssh.write_text(
        "#!/bin/sh\nif (: </dev/tty) 2>/dev/null; then cat /dev/tty; fi\n"
        "echo 'ann@git.example: Permission denied (publickey).' >&2\nexit 255\n"
    )
    ssh.chmod(0o755)
    monkeypatch.setenv("GIT_SSH_COMMAND", str(ssh))
    error = await refused("git@git.example:shop/mesh.git", tmp_path)
    assert isinstance(error, Denied)
    assert "Permission denied (publickey)" in error.message
