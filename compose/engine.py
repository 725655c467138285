"""The engine and Compose: commands of theirs, and that they can do what the demo needs."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

# What compose.yaml is written for: the last release of version 1, and every one of version 2.
OLDEST_COMPOSE = (1, 29)
_PULLED = "without an image registry: make images, then compose/tour --local"


class Failure(Exception):
    """What went wrong and, on the second line, what to do about it or what was said last."""


def run(
    *words: str, text: str = "", env: Mapping[str, str] | None = None, timeout: float = 60
) -> str:
    """A command's standard output. A Ctrl-C is the tour's, not the command's.

    Raises:
        Failure: it ended with something else than 0, or not in time.
    """
    try:
        done = subprocess.run(
            words,
            input=text,
            capture_output=True,
            text=True,
            env=env,
            timeout=timeout,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired as error:
        raise Failure(f"{' '.join(words[:4])} took longer than {timeout:.0f} s") from error
    if done.returncode:
        last = "\n".join((done.stderr or done.stdout).strip().splitlines()[-12:])
        raise Failure(f"{' '.join(words[:6])} ended with {done.returncode}\n{last}")
    return done.stdout


def require_engine() -> None:
    """Return where a Docker engine answers.

    Raises:
        Failure: none does.
    """
    if shutil.which("docker") is None:
        raise Failure("there is no docker program\ninstall Docker: a client and an engine")
    try:
        run("docker", "version")
    except Failure as failure:
        said = str(failure).splitlines()[-1]
        raise Failure(f"no Docker engine answers: {said}\nstart one, or set DOCKER_HOST") from None


def compose_command() -> list[str]:
    """Compose 2 where it is, else 1.29.

    Raises:
        Failure: there is none, or an older one.
    """
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) is None:
            continue
        done = subprocess.run([*command, "version", "--short"], capture_output=True, text=True)
        if done.returncode == 0:
            return _new_enough(command, done.stdout.strip())
    raise Failure("there is neither `docker compose` nor `docker-compose`\ninstall Compose 2")


def require_images(file: Path) -> None:
    """Return where the engine has every image that an environment file names.

    Raises:
        Failure: one is missing; the engine would look for it in a registry.
    """
    pairs = (line.partition("=") for line in file.read_text(encoding="utf-8").splitlines())
    names = [os.environ.get(name, value) for name, _, value in pairs if name.endswith("_IMAGE")]
    listed = run("docker", "images", "--format", "{{.Repository}}:{{.Tag}}").split()
    if missing := sorted(set(names) - set(listed)):
        raise Failure(f"the engine has no image {', '.join(missing)}\nmake images")


def published(project: str) -> list[str]:
    """Where ports of a project's containers are published on this machine: `address:port`."""
    label = f"label=com.docker.compose.project={project}"
    found = []
    for container in run("docker", "ps", "-q", "--filter", label).split():
        said = run("docker", "inspect", "-f", "{{json .NetworkSettings.Ports}}", container)
        bound = [at for several in json.loads(said).values() for at in several or ()]
        found += [f"{at['HostIp']}:{at['HostPort']}" for at in bound]
    return found


def pulled(failure: Failure) -> Failure:
    """A start's failure, with what to do where it was a registry's."""
    text = str(failure)
    is_pull = re.search(r"pull|registry|no such host|manifest|lookup", text)
    return Failure(f"{text}\n{_PULLED}") if is_pull else failure


def _new_enough(command: list[str], version: str) -> list[str]:
    found = re.match(r"v?(\d+)\.(\d+)", version)
    if found is None or tuple(map(int, found.groups())) < OLDEST_COMPOSE:
        oldest = ".".join(map(str, OLDEST_COMPOSE))
        raise Failure(
            f'`{" ".join(command)}` is "{version}", and the demo needs {oldest} or later\n'
            "install Compose 2"
        )
    return command
