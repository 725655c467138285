"""`pytest tests/golden --update-golden` rewrites what is expected: read the diff then."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="rewrite the golden files from the compiler"
    )


@pytest.fixture(scope="session")
def is_updating(pytestconfig: pytest.Config) -> bool:
    # The option is unknown where pytest did not start in this folder.
    return bool(pytestconfig.getoption("--update-golden", default=False))
