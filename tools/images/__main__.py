"""Everything that the container tests and the Compose demo run, made from nothing.

    python -m tools.images            all images, and `docker compose` below .tools/docker

Needs a Docker engine, a Debian mirror and the package index; no image registry. What is made
already from the same inputs is left alone: each image carries their digest as a label.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from compose import engine
from tools import servers
from tools.images import debian
from tools.servers import BIN, TOOLS, Failure, locate, run

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
WHEELS = TOOLS / "wheels"
CONTEXT = TOOLS / "image-roots"
LABEL = "org.mesh.inputs"
BASE = "mesh-base:bookworm"
MESH = "mesh:dev"
PROGRAMS = {
    "etcd": ("etcd", "etcdctl"),
    "consul": ("consul",),
    "prometheus": ("prometheus", "promtool"),
}
SERVERS = (*PROGRAMS, "redis")
SOURCES = ("Dockerfile", "pyproject.toml", "README.md", "LICENSE", "mesh", "schemas")
SOURCES_TOO = ("policies/shop", "tools/images/keep")


def main() -> int:
    """0: everything is there; 1: not, with the remedy on standard error."""
    TOOLS.mkdir(exist_ok=True)
    try:
        engine.require_engine()
        debian.require_debian()
        with (TOOLS / "images.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            make()
    except (Failure, engine.Failure) as failure:
        print(f"images: {failure}", file=sys.stderr)
        return 1
    return 0


def make() -> None:
    """Base, wheels and programs side by side, for each waits for another server; then images."""
    with ThreadPoolExecutor() as pool:
        parts = [pool.submit(part) for part in (base, wheels, programs)]
        for part in parts:
            part.result()
    with ThreadPoolExecutor(2) as pool:
        builds = [pool.submit(mesh), *(pool.submit(server, name) for name in SERVERS)]
        for build in builds:
            build.result()


def base() -> None:
    """The base of all the others."""
    digest = digest_of([], debian.base_recipe())
    once(BASE, digest, lambda: debian.make_base(BASE, f"{LABEL}={digest}"))


def wheels() -> None:
    """The image's packages, checked by the hashes of its locks."""
    locks = [HERE / "runtime.lock", HERE / "build.lock"]
    digest = digest_of(locks)
    mark = WHEELS / "inputs"
    if mark.is_file() and mark.read_text() == digest:
        return
    with step("wheels"):
        shutil.rmtree(WHEELS, ignore_errors=True)
        WHEELS.mkdir(parents=True)
        for lock in locks:
            run(
                *(sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes"),
                *("--disable-pip-version-check", "--only-binary", ":all:", "--no-deps"),
                *("--python-version", "3.11", "--dest", WHEELS, "--requirement", lock),
            )
        mark.write_text(digest)


def programs() -> None:
    """What each server's image has below /usr/local, in a folder of its name; and Compose."""
    servers.provide()
    for server, names in PROGRAMS.items():
        (CONTEXT / server / "bin").mkdir(parents=True, exist_ok=True)
        beside = (locate(server) or BIN / server).parent
        for name in names:
            found = next((f / name for f in (beside, BIN) if (f / name).is_file()), None)
            if found is None:
                raise Failure(f'there is no "{name}" beside {beside / server}\nmake servers')
            place = CONTEXT / server / "bin" / name
            if not place.is_file() or place.stat().st_mtime != found.stat().st_mtime:
                shutil.copy2(found, place)
    debian.fetch_redis(CONTEXT / "redis")
    debian.fetch_compose()


def mesh() -> None:
    """The image of mesh itself."""
    inputs = [path for name in (*SOURCES, *SOURCES_TOO) for path in files(ROOT / name)]
    digest = digest_of([*inputs, HERE / "runtime.lock", HERE / "build.lock"], identity(BASE))
    arguments = ("BASE=" + BASE, "NO_INDEX=1", "GIT=1", "REVISION=" + revision())
    once(
        MESH,
        digest,
        lambda: build(MESH, ROOT, digest=digest, file="Dockerfile", arguments=arguments),
    )


def server(name: str) -> None:
    """The image of one server."""
    image = f"mesh-{name}:dev"
    file = HERE / "servers.Dockerfile"
    inputs = [file, *files(CONTEXT / name)]
    digest = digest_of(inputs, identity(BASE))
    arguments = ("BASE=" + BASE,)
    once(
        image,
        digest,
        lambda: build(image, CONTEXT, digest=digest, file=file, arguments=arguments, target=name),
    )


def build(
    image: str,
    context: Path,
    *,
    digest: str,
    file: Path | str,
    arguments: Iterable[str],
    target: str | None = None,
) -> None:
    """`docker build`, by the fastest builder there is, with the digest of the inputs as label."""
    program, kit = builder()
    command = [program, "build", "--quiet", "--file", str(file), "--tag", image]
    command += [word for argument in arguments for word in ("--build-arg", argument)]
    command += ["--label", f"{LABEL}={digest}", *(("--target", target) if target else ())]
    run(*command, str(context), cwd=ROOT, env={**os.environ, "DOCKER_BUILDKIT": kit})


def builder() -> tuple[str, str]:
    """Which client, and its DOCKER_BUILDKIT.

    A client of 23 or later needs the plugin buildx for BuildKit and fails without; an older one
    drives the engine's own.
    """
    buildx = subprocess.run(["docker", "buildx", "version"], capture_output=True)
    if buildx.returncode == 0:
        return "docker", "1"
    for program in ("docker", "/usr/bin/docker"):
        asked = (program, "version", "--format", "{{.Client.Version}}")
        if not shutil.which(program):
            continue
        said = subprocess.run(asked, capture_output=True, text=True)
        if said.stdout.startswith(("19.", "20.")):
            return program, "1"
    return "docker", "0"


def once(image: str, digest: str, action: Callable[[], None]) -> None:
    """Make an image unless it is there with these inputs; the one it replaces goes."""
    old = inspect(image)
    if old and ((old.get("Config") or {}).get("Labels") or {}).get(LABEL) == digest:
        return
    with step(image):
        action()
    if old:
        # Refused while a container runs it, which is right.
        subprocess.run(["docker", "rmi", str(old["Id"])], capture_output=True)


def inspect(image: str) -> dict[str, dict[str, dict[str, str]]]:
    """What the engine knows of an image; nothing of one that it does not have."""
    done = subprocess.run(["docker", "image", "inspect", image], capture_output=True, text=True)
    return json.loads(done.stdout)[0] if done.returncode == 0 else {}


def identity(image: str) -> str:
    """The digest that names an image."""
    return str(inspect(image).get("Id", ""))


def revision() -> str:
    """The commit that is checked out, for the image's label."""
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def files(path: Path) -> list[Path]:
    """A file, or the files below a folder that an image takes."""
    if path.is_file():
        return [path]
    return sorted(
        file
        for file in path.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts and ".egg-info" not in str(file)
    )


def digest_of(paths: Iterable[Path], *words: str) -> str:
    """SHA-256 over files, with their names, and words."""
    whole = hashlib.sha256("\0".join(words).encode())
    for path in paths:
        name = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
        whole.update(f"\0{name}\0".encode())
        whole.update(hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()


class step:
    """Say what is being made, and how long it took; several at once keep their lines whole."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        self._start = time.monotonic()

    def __exit__(self, kind: object, *rest: object) -> None:
        word = "failed" if kind else f"{time.monotonic() - self._start:.0f} s"
        print(f"  {self._what}: {word}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
