"""`make bench` and `make bench NAME=...`: run benchmarks and print their figures.

Each module of this folder with a `run()` is one benchmark; the first line of its docstring says
what it measures. A figure that misses its bar is shown as such; nothing fails for being slow.
"""

import importlib
import pkgutil
import platform
import sys

import tests.benchmarks as package
from tests.support.leftovers import nothing_left

HARNESS = {"__main__", "commits", "harness", "raw", "sides"}


def main(names: list[str]) -> int:
    """Run the named benchmarks, or list and run all."""
    known = sorted({each.name for each in pkgutil.iter_modules(package.__path__)} - HARNESS)
    unknown = set(names) - set(known)
    if unknown:
        print(f"no benchmark is named {', '.join(sorted(unknown))}; there are: {', '.join(known)}")
        return 64
    print(f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}")
    for name in names or known:
        module = importlib.import_module(f"tests.benchmarks.{name}")
        print(f"\n{name}: {(module.__doc__ or '').splitlines()[0]}", flush=True)
        module.run()
    return 0


if __name__ == "__main__":
    with nothing_left():
        sys.exit(main(sys.argv[1:]))
