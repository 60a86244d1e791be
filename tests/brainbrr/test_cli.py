"""The command line: every command of the table exists, help is quick, errors become a line and a status."""

import subprocess
import sys

import click
import pytest

from brainbrr.cli import COMMANDS, LazyGroup, brainbrr, main


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_of_the_table_exists_and_explains_itself(name: str) -> None:
    assert isinstance(brainbrr, LazyGroup)
    command = brainbrr.get_command(click.Context(brainbrr), name)
    assert command is not None
    assert command.name == name
    assert command.help


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys\nfrom brainbrr.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit as stop: assert stop.code == 0\n"
        "print(sorted({'torch', 'mne', 'scipy', 'pydantic', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--version"], 0, "brainbrr, version"),
        (["no-such-command"], 2, "No such command"),
        (["show-config"], 2, "Missing argument"),
        (["show-config", "nowhere.yaml"], 2, "error: nowhere.yaml: no such configuration file"),
    ],
)
def test_errors_are_one_message_and_a_status(
    capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, words: str
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == status
    captured = capsys.readouterr()
    assert words in captured.out + captured.err
    assert "Traceback" not in captured.err
