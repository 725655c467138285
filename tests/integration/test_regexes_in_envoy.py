"""The expressions that the front end accepts are accepted by the real Envoy."""

import json
import random
import subprocess
from pathlib import Path

from mesh.documents.regexes import refusal
from tests.support.envoy import binary

PIECES = [*"ab/.-_0", "|", ".", "^", "$", "(", ")", "(?:", "(?i:", "(?P<n>", "[a-z]", "[^/]"]
PIECES += ["[]a]", "[[:alpha:]]", r"\d", r"\W", r"\.", r"\x41", r"\x{e4}", r"\pL", r"\p{Greek}"]
PIECES += ["*", "+", "?", "{2}", "{2,}", "{1,3}", "{,2}", "{", "}", "]", r"\b", r"\A", r"\z"]
PIECES += [r"[\d.]", r"[\pN-]", "(?s)", "(?-i)", "ä", "✓", "-", "[a-", "(?=", r"\1", "++", "[:"]
# As large as they may be: RE2's own bound must not be the nearer one.
LARGEST = [r"\pL{19}", "(a{31}){31}", "[a-z]{900}", "(.{500})", r"(?i)[\w/-]{300}", "a" * 1024]


def test_envoy_reads_every_expression_that_is_accepted(tmp_path: Path) -> None:
    chance = random.Random(1)
    accepted = [pattern for pattern in LARGEST if refusal(pattern) is None]
    assert accepted == LARGEST
    while len(accepted) < 1500:
        pattern = "".join(chance.choices(PIECES, k=chance.randint(1, 9)))
        if refusal(pattern) is None:
            accepted.append(pattern)
    file = tmp_path / "envoy.json"
    file.write_text(json.dumps(_bootstrap(accepted)))
    done = subprocess.run(
        [binary(), "--mode", "validate", "-l", "error", "-c", file],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def _bootstrap(patterns: list[str]) -> dict[str, object]:
    routes = [
        {"match": {"safe_regex": {"regex": pattern}}, "direct_response": {"status": 200}}
        for pattern in patterns
    ]
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager"
        ".v3.HttpConnectionManager",
        "stat_prefix": "a",
        "route_config": {"virtual_hosts": [{"name": "a", "domains": ["*"], "routes": routes}]},
        "http_filters": [
            {
                "name": "router",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
                },
            }
        ],
    }
    listener = {
        "name": "a",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 1}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    # Envoy's own bound of 100 instructions is nearer than RE2's, and every sidecar lifts it.
    lifted = {"re2.max_program_size.error_level": 1_000_000}
    return {
        "static_resources": {"listeners": [listener]},
        "layered_runtime": {"layers": [{"name": "static", "static_layer": lifted}]},
    }
