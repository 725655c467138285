"""What every agent must generate alike, whatever its version."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mesh.compiler.generated import ADS

GOLDEN = Path(__file__).parents[2] / "golden"
# Not to be changed with the code: an agent of another version that adopts a running Envoy would
# make it answer 503 for good (envoy#47309).
PROMISED = '{"ads": {}, "initial_fetch_timeout": "5s", "resource_api_version": "V3"}'
WHERE = ("sds_config", "eds_config", "config_source")


def sources(value: Any) -> Iterator[str]:
    """Every ConfigSource in some JSON."""
    if isinstance(value, dict):
        for name, item in value.items():
            if name in WHERE:
                yield json.dumps(item, sort_keys=True)
            yield from sources(item)
    elif isinstance(value, list):
        for item in value:
            yield from sources(item)


def test_config_sources_are_the_same_bytes_in_every_version() -> None:
    assert json.dumps(ADS, sort_keys=True) == PROMISED
    files = list(GOLDEN.glob("*/*.json"))
    found = {source for file in files for source in sources(json.loads(file.read_text()))}
    assert found == {PROMISED}
