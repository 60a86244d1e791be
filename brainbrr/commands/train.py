"""``brainbrr train``: train a detector, or go on where an earlier session left off."""

import logging
import os
import sys
from pathlib import Path

import click

from brainbrr.config import load_config


@click.command("train")
@click.argument("config", type=click.Path())
@click.option("--set", "overrides", multiple=True, metavar="SECTION.KEY=VALUE", help="Override one key.")
@click.option("--output-dir", type=click.Path(path_type=Path), help="Override run.output_dir.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="Override run.seed.")
@click.option(
    "--max-steps",
    type=click.IntRange(min=1),
    help="End after the step of this number. The plan and its learning rates stay: training can go on later.",
)
@click.option("--fresh", is_flag=True, help="Start over; an earlier run in the output folder is moved aside.")
@click.option("--resume", type=click.Path(path_type=Path), help="Start from this checkpoint.")
@click.option("--override-config", is_flag=True, help="Go on although the configuration or the data changed.")
def train(
    config: str,
    overrides: tuple[str, ...],
    output_dir: Path | None,
    seed: int | None,
    max_steps: int | None,
    fresh: bool,
    resume: Path | None,
    override_config: bool,
) -> None:
    """Train the detector that the file CONFIG describes.

    A run that was interrupted goes on by itself when the same command is given again.
    """
    if fresh and resume is not None:
        raise click.UsageError("--fresh starts over and --resume goes on: give one of them")
    if output_dir is not None:
        overrides = (*overrides, f"run.output_dir={_quoted(output_dir)}")
    if seed is not None:
        overrides = (*overrides, f"run.seed={seed}")
    loaded = load_config(config, overrides)
    if "torch" not in sys.modules:
        # Threads of OpenMP that spin while they wait make a step three times slower as soon as a core is busy.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from brainbrr.training import distributed, session
    from brainbrr.training.console import logging_to_stderr

    options = session.Options(
        output_dir=Path(loaded.run.output_dir).expanduser(),
        pause_at=max_steps,
        fresh=fresh,
        resume=resume,
        override_config=override_config,
    )
    with logging_to_stderr(level=logging.INFO if distributed.is_writer() else logging.WARNING):
        outcome = session.train(loaded, options)
    sys.exit(outcome.exit_status)


def _quoted(path: Path) -> str:
    """Return a path as a YAML string."""
    return "'" + str(path).replace("'", "''") + "'"
