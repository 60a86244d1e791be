"""``brainbrr demo-corpus``: write the embedded corpus."""

from pathlib import Path

import click


@click.command("demo-corpus")
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--seed", type=click.IntRange(min=0), default=None, help="Seed of the signals.")
@click.option(
    "--patients", type=click.IntRange(0, 1000), default=0, show_default=True, help="Further patients, to learn from."
)
@click.option(
    "--recordings", type=click.IntRange(1, 1000), default=4, show_default=True, help="Recordings of each of them."
)
@click.option("--minutes", type=click.IntRange(2, 60), default=5, show_default=True, help="Length of each of these.")
def demo_corpus(directory: Path, seed: int | None, patients: int, recordings: int, minutes: int) -> None:
    """Write small EDF files in TUSZ layout into DIRECTORY, new or empty."""
    from brainbrr.recordings import demo

    chosen = demo.DEFAULT_SEED if seed is None else seed
    more = demo.more_plans(patients, recordings=recordings, duration_s=60 * minutes, seed=chosen)
    plans = demo.PLANS + more
    demo.write_demo_corpus(directory, seed=chosen, plans=plans)
    n_seizures = sum(len(plan.seizures) for plan in plans)
    n_patients = len({plan.patient for plan in plans})
    click.echo(f"{directory}: {len(plans)} recordings of {n_patients} patients, {n_seizures} seizures")
