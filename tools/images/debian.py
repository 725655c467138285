"""Debian's own parts of the images: the base system, and programs out of packages.

The mirror is never written down: it is the one that the machine's apt is configured with.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tools.servers import (
    APT,
    TOOLS,
    Failure,
    Source,
    machine_source,
    os_release,
    run,
    write_configuration,
)

# Bookworm, for its Python is 3.11, as in the official slim image that the Dockerfile names.
SUITE = "bookworm"
BASE_PACKAGES = (
    "python3",
    "python3-venv",
    "ca-certificates",
    "git",  # for `mesh sync`
    "openssh-client",
)
# The last Redis under a free licence; the newer ones and Valkey want a newer base.
REDIS_PACKAGES = ("redis-server", "redis-tools", "libatomic1", "libjemalloc2", "liblzf1")
# What a container never reads.
LEFT_OUT = ("man", "doc", "locale", "info")
COMPOSE = TOOLS / "docker"
_PLUGINS = "usr/libexec/docker/cli-plugins"


def require_debian() -> None:
    """Raise a Failure where this machine has no Debian mirror to take packages from."""
    if shutil.which("apt-get") is None or os_release().get("ID") != "debian":
        raise Failure(
            "the images are made of Debian's packages, and this machine has no Debian mirror\n"
            "with an image registry: docker build -t mesh:dev --build-arg GIT=1 .; name the others "
            "by MESH_ETCD_IMAGE, MESH_CONSUL_IMAGE, MESH_PROMETHEUS_IMAGE, MESH_REDIS_IMAGE"
        )


def bootstrapper() -> str:
    """mmdebstrap, installed if need be, which takes root."""
    if found := shutil.which("mmdebstrap"):
        return found
    if os.geteuid() != 0:
        raise Failure("mmdebstrap is not installed\nas root: apt-get install mmdebstrap")
    command = ("apt-get", "install", "-qq", "--yes", "--no-install-recommends", "mmdebstrap")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        run(*command, env=environment)
    except Failure:  # lists that were never fetched, or are old
        run("apt-get", "-qq", "update", env=environment)
        run(*command, env=environment)
    return "mmdebstrap"


def base_recipe() -> str:
    """Everything that decides what the base image is."""
    return " ".join((SUITE, *BASE_PACKAGES, *LEFT_OUT))


def make_base(image: str, label: str) -> None:
    """Debian's minimal system with Python and git, imported into the engine as `image`."""
    source = machine_source(os_release().get("VERSION_CODENAME", ""))
    command = [
        *(bootstrapper(), "--quiet", "--format=tar", "--variant=apt"),
        f"--mode={'root' if os.geteuid() == 0 else 'unshare'}",
        "--aptopt=Apt::Install-Recommends false",
        *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in LEFT_OUT),
        f"--include={','.join(BASE_PACKAGES)}",
        # The mirror is this machine's business: the image names none.
        "--customize-hook=rm -rf $1/var/lib/apt/lists/* $1/var/cache/* $1/var/log/* "
        "$1/etc/apt/sources.list $1/etc/apt/sources.list.d/*",
        *(SUITE, "-", *_lines(source)),
    ]
    log = TOOLS / "base.log"
    with log.open("wb") as errors:
        system = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors)
        done = subprocess.run(
            [
                *("docker", "import", "--change", f"LABEL {label}"),
                *("--change", "ENV LANG=C.UTF-8", "--change", 'CMD ["python3"]', "-", image),
            ],
            stdin=system.stdout,
            capture_output=True,
            text=True,
        )
        code = system.wait()
    if code or done.returncode:
        tail = log.read_text(errors="replace").strip().splitlines()[-5:]
        # What was imported of a system that broke off is no image.
        subprocess.run(["docker", "rmi", image], capture_output=True)
        raise Failure(f"the base image failed\n{done.stderr.strip()}\n" + "\n".join(tail))


def _lines(source: Source) -> list[str]:
    """The source lines of the base system: the release and its security updates."""
    option = f"[signed-by={source.signed_by}] " if source.signed_by else ""
    lines = [f"deb {option}{source.uri} {SUITE} main"]
    try:
        security = machine_source(f"{SUITE}-security")
    except Failure:
        return lines  # a machine without security updates gives none to its images
    return [*lines, f"deb {option}{security.uri} {SUITE}-security main"]


def fetch_compose() -> Path:
    """`docker compose` (version 2) as a plugin below a folder for DOCKER_CONFIG."""
    plugin = COMPOSE / "cli-plugins" / "docker-compose"
    if not os.access(plugin, os.X_OK):
        plugin.parent.mkdir(parents=True, exist_ok=True)
        with unpacked("trixie", "docker-compose") as root:
            shutil.copy2(root / _PLUGINS / "docker-compose", plugin)
    return COMPOSE


def fetch_redis(place: Path) -> None:
    """Redis for the base system, as `bin` and `lib`: it is linked against libraries, unlike Go's
    programs.
    """
    if place.is_dir():
        return
    with unpacked(SUITE, *REDIS_PACKAGES) as root:
        whole = place.with_name(f".{place.name}")
        shutil.rmtree(whole, ignore_errors=True)
        programs = [root / "usr" / "bin" / name for name in ("redis-server", "redis-cli")]
        libraries = root.glob("usr/lib/*/*.so.*")
        for kind, files in (("bin", programs), ("lib", libraries)):
            (whole / kind).mkdir(parents=True)
            for file in files:
                shutil.copy2(file, whole / kind)
        whole.replace(place)


@contextmanager
def unpacked(suite: str, *packages: str) -> Iterator[Path]:
    """Packages of one of Debian's suites, unpacked for the length of a `with` block."""
    source = machine_source(os_release().get("VERSION_CODENAME", ""))
    configuration = write_configuration(source, [suite], "main")
    environment = {**os.environ, "APT_CONFIG": str(configuration), "LC_ALL": "C"}
    run("apt-get", "-q", "update", env=environment)
    names = [f"{package}/{suite}" for package in packages]
    with tempfile.TemporaryDirectory(dir=APT) as folder:
        run("apt-get", "-q", "download", *names, cwd=Path(folder), env=environment)
        root = Path(folder) / "root"
        for deb in sorted(Path(folder).glob("*.deb")):
            run("dpkg", "-x", deb, root)
        yield root
