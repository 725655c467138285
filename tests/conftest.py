"""What holds for every run of tests: nothing that it started survives it."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.support.leftovers import Run, end_as_by_ctrl_c

RUN = pytest.StashKey[Run]()


def pytest_configure(config: pytest.Config) -> None:
    end_as_by_ctrl_c()
    if not hasattr(config, "workerinput"):  # workers of xdist inherit its mark
        stack = ExitStack()
        config.stash[RUN] = stack.enter_context(Run.marked())
        config.add_cleanup(stack.close)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    yield
    if (run := session.config.stash.get(RUN, None)) is None:
        return
    for pid, command in run.wait().items():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        print(f"\nleft behind, and ended: {pid} {command}")  # noqa: T201 - after the last report
