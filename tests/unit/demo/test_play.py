"""What the demo says at its end can be typed as it stands."""

import sys
from pathlib import Path

from mesh.demo.play import settings_to_export

BIN = Path(sys.executable).parent


def test_a_mesh_that_is_not_on_the_path_is_put_there():
    assert settings_to_export(Path("/state"), {"PATH": "/usr/bin"}) == [
        "export MESH_STATE=/state",
        f'export PATH="{BIN}:$PATH"',
    ]


def test_a_mesh_that_is_on_the_path_is_left_there():
    assert settings_to_export(Path("/state"), {"PATH": f"/usr/bin:{BIN}"}) == [
        "export MESH_STATE=/state"
    ]
