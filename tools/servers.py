"""Find real etcd, Consul and Prometheus for the tests, or put them into .tools/bin without being
root.

Each is looked for in MESH_TEST_ETCD, MESH_TEST_CONSUL or MESH_TEST_PROMETHEUS, then on PATH, then
in .tools/bin. What is missing comes, on Debian and Ubuntu, from the mirror that the machine's own
apt uses, through a private apt configuration: its own source list (the same mirror, another
suite's name), lists and cache below .tools. Nothing is installed; the machine's apt is only read.
"""

import fcntl
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

TOOLS = Path(__file__).resolve().parent.parent / ".tools"
BIN = TOOLS / "bin"
APT = TOOLS / "apt"
DEADLINE_SECONDS = 600


class Failure(Exception):
    """What went wrong and, on the second line, what to do about it."""


@dataclass(frozen=True, slots=True)
class Server:
    """A program that tests run, and which package of which suite has it.

    `suites` maps a distribution's id (os-release) to the suite: the newest good etcd, and the
    last Consul under a free licence, and the Prometheus that hosts with packages have.
    """

    name: str
    variable: str
    packages: tuple[str, ...]
    suites: Mapping[str, str]
    programs: tuple[str, ...]
    probe: tuple[str, ...]
    manual: str


SERVERS = (
    Server(
        name="etcd",
        variable="MESH_TEST_ETCD",
        packages=("etcd-server", "etcd-client"),
        suites={"debian": "sid", "ubuntu": "noble"},
        programs=("etcd", "etcdctl"),
        probe=("--version",),
        manual="etcd 3.4.23 or later, or 3.5.13 or later",
    ),
    Server(
        name="consul",
        variable="MESH_TEST_CONSUL",
        packages=("consul",),
        suites={"debian": "bullseye", "ubuntu": "jammy"},
        programs=("consul",),
        probe=("version",),
        manual="Consul 1.8 or later",
    ),
    Server(
        name="prometheus",
        variable="MESH_TEST_PROMETHEUS",
        packages=("prometheus",),
        suites={"debian": "bookworm", "ubuntu": "noble"},
        programs=("prometheus", "promtool"),
        probe=("--version",),
        manual="Prometheus 2.42 or later, with promtool beside it",
    ),
)


def locate(name: str) -> Path | None:
    """Where the server `name` is, or None. A variable that names no program is a Failure."""
    server = next(s for s in SERVERS if s.name == name)
    if named := os.environ.get(server.variable):
        if os.access(named, os.X_OK) and Path(named).is_file():
            return Path(named)
        raise Failure(f'{server.variable}="{named}" is not a program\nset it to one, or unset it')
    if found := shutil.which(name):
        return Path(found)
    ours = BIN / name
    return ours if os.access(ours, os.X_OK) else None


def version(server: Server, program: Path) -> str:
    """The first line that the program says of its version; proves that it runs here."""
    try:
        said = subprocess.run(
            [program, *server.probe], capture_output=True, text=True, timeout=60, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise Failure(
            f"{program} does not run here: {error}\n"
            f"install {server.manual}, and set {server.variable} to its path"
        ) from error
    return said.stdout.partition("\n")[0].strip()


def run(*command: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """A command's output; its last words in a Failure where it fails."""
    try:
        done = subprocess.run(
            command, cwd=cwd, env=env, capture_output=True, text=True, timeout=DEADLINE_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise Failure(
            f"{command[0]} took longer than {DEADLINE_SECONDS} s\nis the mirror reachable?"
        ) from error
    if done.returncode:
        last = "\n".join((done.stderr or done.stdout).strip().splitlines()[-6:])
        raise Failure(f"{' '.join(str(part) for part in command)} failed:\n{last}")
    return done.stdout


def os_release() -> dict[str, str]:
    """The fields of os-release; none of it where there is no such file."""
    path = Path("/etc/os-release")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    pairs = (line.partition("=") for line in lines if "=" in line)
    return {key: value.strip().strip('"') for key, _, value in pairs}


@dataclass(frozen=True, slots=True)
class Source:
    """One entry of an apt source list."""

    uri: str
    suites: tuple[str, ...]
    components: tuple[str, ...]
    signed_by: str = ""


ONE_LINE = re.compile(r"^deb\s+(?:\[(?P<options>[^]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s+(.+)$")


def one_line_sources(text: str) -> Iterator[Source]:
    """The entries of a `.list` file (sources.list(5), one-line style)."""
    for line in text.splitlines():
        if found := ONE_LINE.match(line.partition("#")[0].strip()):
            options = dict(o.partition("=")[::2] for o in (found["options"] or "").split())
            components = tuple(found[4].split())
            yield Source(found["uri"], (found["suite"],), components, options.get("signed-by", ""))


def deb822_sources(text: str) -> Iterator[Source]:
    """The entries of a `.sources` file (sources.list(5), deb822 style)."""
    for stanza in re.split(r"\n\s*\n", text):
        lines = [line for line in stanza.splitlines() if line and not line.startswith("#")]
        fields: dict[str, str] = {}
        name = ""
        for line in lines:
            if line[0].isspace():
                fields[name] += "\n" + line
                continue
            name, _, value = line.partition(":")
            name = name.strip().lower()
            fields[name] = value.strip()
        if "deb" not in fields.get("types", "").split() or fields.get("enabled") == "no":
            continue
        for uri in fields.get("uris", "").split():
            suites, components = fields.get("suites", ""), fields.get("components", "")
            key = fields.get("signed-by", "")
            yield Source(uri, tuple(suites.split()), tuple(components.split()), key)


def machine_source(codename: str, folder: Path = Path("/etc/apt")) -> Source:
    """The entry that the machine gets its own release from, not its security updates."""
    files = [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*"))]
    for path in files:
        if not path.is_file() or path.suffix not in {".list", ".sources"}:
            continue
        parse = deb822_sources if path.suffix == ".sources" else one_line_sources
        for source in parse(path.read_text(encoding="utf-8")):
            if codename in source.suites:
                return source
    raise Failure(
        f'no apt source of this machine offers "{codename}"\n' + by_hand(SERVERS, "install")
    )


def write_configuration(source: Source, suites: list[str], components: str) -> Path:
    """The private apt configuration; the machine's own ways to reach a mirror are kept."""
    for folder in ("lists/partial", "cache/archives/partial", "parts", "debs"):
        (APT / folder).mkdir(parents=True, exist_ok=True)
    (APT / "status").touch()
    key = f"Signed-By: {source.signed_by}\n" if source.signed_by else ""
    (APT / "parts" / "mesh.sources").write_text(
        f"Types: deb\nURIs: {source.uri}\nSuites: {' '.join(suites)}\n"
        f"Components: {components}\n{key}",
        encoding="utf-8",
    )
    kept = [
        line
        for line in run("apt-config", "dump").splitlines()
        if line.startswith("Acquire::") and "IndexTargets" not in line and "Languages" not in line
    ]
    path = APT / "apt.conf"
    ours = [
        f'Dir::State "{APT}";',
        f'Dir::State::status "{APT}/status";',
        f'Dir::State::lists "{APT}/lists";',
        f'Dir::Cache "{APT}/cache";',
        'Dir::Etc::main "/dev/null";',
        'Dir::Etc::parts "/dev/null";',
        'Dir::Etc::sourcelist "/dev/null";',
        f'Dir::Etc::sourceparts "{APT}/parts";',
        'Dir::Etc::preferences "/dev/null";',
        'Dir::Etc::preferencesparts "/dev/null";',
        'Acquire::Languages "none";',
        # A suite that has retired keeps an old date on its signed index.
        'Acquire::Check-Valid-Until "false";',
        # As root apt would drop to a user who may not write below .tools.
        'APT::Sandbox::User "";',
    ]
    path.write_text("\n".join([*kept, *ours]) + "\n", encoding="utf-8")
    return path


def fetch(servers: list[Server], distribution: str, codename: str) -> None:
    """Download and unpack the packages of `servers`; their programs land in .tools/bin."""
    components = "main" if distribution == "debian" else "main universe"
    suites = sorted({server.suites[distribution] for server in servers})
    configuration = write_configuration(machine_source(codename), suites, components)
    env = {**os.environ, "APT_CONFIG": str(configuration), "LC_ALL": "C"}
    with step(f"reading the package lists of {' and '.join(suites)}"):
        run("apt-get", "-q", "update", env=env)
    debs = APT / "debs"
    for server in servers:
        suite = server.suites[distribution]
        for old in debs.iterdir():
            shutil.rmtree(old) if old.is_dir() else old.unlink()
        with step(f"downloading {' and '.join(server.packages)} of {suite}"):
            names = [f"{package}/{suite}" for package in server.packages]
            run("apt-get", "-q", "download", *names, cwd=debs, env=env)
        with step(f"unpacking {server.name}"):
            for deb in sorted(debs.glob("*.deb")):
                run("dpkg", "-x", deb, debs / "root")
            for program in server.programs:
                install(debs / "root" / "usr" / "bin" / program)


def install(program: Path) -> None:
    """Put a program into .tools/bin, whole or not at all."""
    if not program.is_file():
        raise Failure(f'the packages hold no "{program.name}"\n' + by_hand(SERVERS, "install"))
    BIN.mkdir(parents=True, exist_ok=True)
    whole = BIN / f".{program.name}"
    shutil.copy2(program, whole)
    whole.chmod(0o755)
    whole.replace(BIN / program.name)


def by_hand(servers: tuple[Server, ...] | list[Server], verb: str) -> str:
    """What a person does where this program cannot."""
    return "\n".join(
        f"{verb} {server.manual}: on PATH, or named by {server.variable}" for server in servers
    )


@contextmanager
def step(what: str) -> Iterator[None]:
    """Say what is being done before it is, and how long it took after."""
    print(f"  {what} ...", end="", flush=True)
    start = time.monotonic()
    try:
        yield
    except BaseException:
        print(" failed", flush=True)
        raise
    print(f" {time.monotonic() - start:.0f} s", flush=True)


def provide() -> None:
    """Make every server available, or raise a Failure that says what to do."""
    missing = [server for server in SERVERS if locate(server.name) is None]
    if missing:
        release = os_release()
        family = [release.get("ID", ""), *release.get("ID_LIKE", "").split()]
        distribution = next((name for name in family if name in SERVERS[0].suites), None)
        names = " and ".join(server.name for server in missing)
        if distribution is None or shutil.which("apt-get") is None:
            raise Failure(
                f"{names} not found, and only Debian's and Ubuntu's packages are fetched\n"
                + by_hand(missing, "install")
            )
        codename = release.get("VERSION_CODENAME", "")
        if distribution != release.get("ID"):
            codename = release.get("UBUNTU_CODENAME", release.get("DEBIAN_CODENAME", codename))
        print(f"{names} not found: fetching into {BIN}")
        fetch(missing, distribution, codename)
    for server in SERVERS:
        program = locate(server.name)
        if program is None:
            raise Failure(f"{server.name} is still missing\n" + by_hand([server], "install"))
        print(f"{server.name:10} {program}  ({version(server, program)})")


def main() -> int:
    """0: all are there and run; 1: not, with the remedy on standard error."""
    TOOLS.mkdir(exist_ok=True)
    try:
        with (TOOLS / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            provide()
    except Failure as failure:
        print(f"servers: {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
