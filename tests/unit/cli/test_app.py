"""The command line's own work: global options anywhere, errors in the form that is asked for."""

from datetime import timedelta

import pytest

from mesh.cli.app import hoist, run, wants_json
from mesh.cli.options import duration
from mesh.errors import UsageError


@pytest.mark.parametrize(
    ("given", "hoisted"),
    [
        (["status", "--store", "x"], ["--store", "x", "status"]),
        (["status", "--store=x", "-w"], ["--store=x", "status", "-w"]),
        (["run", "--", "x", "--store", "y"], ["run", "--", "x", "--store", "y"]),
        (["apply", "a", "--verbose"], ["--verbose", "apply", "a"]),
        (["status", "--store"], ["--store", "status"]),
    ],
)
def test_global_options_may_stand_anywhere_before_the_command_to_run(given, hoisted):
    assert hoist(given) == hoisted


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["x", "--output", "json"], True),
        (["x", "--output=json"], True),
        (["x", "-o", "json"], True),
        (["x", "--output", "text"], False),
        (["run", "--", "x", "--output", "json"], False),
    ],
)
def test_the_form_of_errors_is_seen_in_a_wrong_command_line(given, expected):
    assert wants_json(given) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30s", timedelta(seconds=30)),
        ("1m30s", timedelta(seconds=90)),
        ("250ms", timedelta(milliseconds=250)),
        ("0.5s", timedelta(milliseconds=500)),
    ],
)
def test_durations(text: str, expected: timedelta):
    assert duration(text, "--timeout") == expected


@pytest.mark.parametrize("text", ["30", "", "s", "30 s", "-1s", "0s", "1d", "1s!"])
def test_wrong_durations_are_refused_with_the_flag(text: str):
    with pytest.raises(UsageError, match="--timeout"):
        duration(text, "--timeout")


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], ["status", "--nonsense"], ["apply"], ["diff", "a", "b"], ["status", "-o", "x"]],
)
def test_a_wrong_command_line_exits_with_64(arguments, capsys: pytest.CaptureFixture[str]):
    assert run(arguments) == 64
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error[usage]: ")


def test_an_error_is_json_where_json_is_asked_for(capsys: pytest.CaptureFixture[str]):
    assert run(["apply", "x", "--output", "json"]) == 64
    out, err = capsys.readouterr()
    assert err == ""
    assert '"code": "usage"' in out


COMMANDS = [
    *("init", "validate", "plan", "apply", "rollback", "status", "get", "describe", "history"),
    *("diff", "sidecar", "run", "doctor", "demo"),
]


@pytest.mark.parametrize("command", [*COMMANDS, "ca init", "ca status", "ca rotate"])
def test_every_command_has_help_with_an_example(command: str, capsys: pytest.CaptureFixture[str]):
    assert run([*command.split(), "-h"]) == 0
    assert f"Example: mesh {command}" in capsys.readouterr().out


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]):
    assert run(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {command} " in shown for command in [*COMMANDS, "ca"])
    assert run([]) == 0
    assert capsys.readouterr().out == shown
