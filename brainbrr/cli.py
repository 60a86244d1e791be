"""The command line ``brainbrr``: finds a command, and turns errors into one message and an exit status.

Exit status: 0 done, 1 stopped by an error of data, training or output, 2 wrong usage or configuration, 130 Ctrl-C.
"""

import importlib
import sys

import click

from brainbrr import __version__
from brainbrr.errors import BrainbrrError, NoSeizureError

# Name -> (module that defines a click command of that name with ``-`` as ``_``, one line of help).
COMMANDS = {
    "train": ("brainbrr.commands.train", "Train a detector from a configuration file."),
    "evaluate": ("brainbrr.commands.evaluate", "Score a checkpoint on a split."),
    "predict": ("brainbrr.commands.predict", "Write the seizure events a checkpoint finds in EDF files."),
    "inspect": ("brainbrr.commands.inspect", "Print what a checkpoint holds."),
    "show-config": ("brainbrr.commands.show_config", "Print a configuration with every default filled in."),
    "show-model": ("brainbrr.commands.show_model", "Print a model's tree, shapes, parameters and FLOPs."),
    "corpus": ("brainbrr.commands.corpus", "Print what a corpus folder holds."),
    "demo-corpus": ("brainbrr.commands.demo_corpus", "Write the embedded corpus of small EDF files."),
    "cache": ("brainbrr.commands.cache", "Build, check and prune preprocessed recordings."),
    "plot": ("brainbrr.commands.plot", "Draw a recording with its seizures."),
}


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is used, so that ``--help`` stays quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command."""
        if cmd_name not in COMMANDS:
            return None
        command = getattr(importlib.import_module(COMMANDS[cmd_name][0]), cmd_name.replace("-", "_"))
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands from the table, importing none of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="brainbrr")
def brainbrr() -> None:
    """Train seizure detectors on scalp EEG."""


def main(args: list[str] | None = None) -> None:
    """Run ``brainbrr`` with ``args`` (by default the process's) and exit with its status."""
    try:
        brainbrr.main(args=args, prog_name="brainbrr", standalone_mode=False)
    except BrainbrrError as error:
        mark = "[FATAL]" if isinstance(error, NoSeizureError) else "error:"
        print(f"{mark} {error}", file=sys.stderr, flush=True)
        sys.exit(error.exit_status)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        print("interrupted", file=sys.stderr, flush=True)
        sys.exit(130)
    sys.exit(0)
