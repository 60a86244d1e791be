"""``brainbrr predict``: write the seizure events a checkpoint finds in EDF files."""

from datetime import datetime
from pathlib import Path

import click

from brainbrr.errors import ConfigError


@click.command("predict")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("recordings", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="EDF...")
@click.option("--output-dir", type=click.Path(path_type=Path), help="Default: beside each EDF file.")
@click.option("--set", "overrides", multiple=True, metavar="SECTION.KEY=VALUE", help="Override one key of the run's.")
@click.option("--weights", type=click.Choice(["auto", "average", "last"]), default="auto", show_default=True)
@click.option("--probability", is_flag=True, help="Also write the probability trace (NPZ).")
@click.option("--picture", is_flag=True, help="Also draw the recording's timeline (PNG).")
def predict(
    checkpoint: Path,
    recordings: tuple[Path, ...],
    output_dir: Path | None,
    overrides: tuple[str, ...],
    weights: str,
    probability: bool,
    picture: bool,
) -> None:
    """Find seizures in EDF files with CHECKPOINT.

    For each, writes STEM_events.tsv (BIDS, SzCORE's columns) and STEM.predicted.csv_bi (TUSZ).
    """
    stems = [_stem(path) for path in recordings]
    twice = sorted({stem for stem in stems if stems.count(stem) > 1})
    if output_dir is not None and twice:
        raise ConfigError("several files would write the same results", where="--output-dir", got=", ".join(twice))
    from brainbrr.scoring import find_events
    from brainbrr.scoring.writers import write_bids_tsv, write_csv_bi, write_trace
    from brainbrr.training.console import counting, logging_to_stderr
    from brainbrr.training.inference import load_trained, trace_windows
    from brainbrr.training.overrides import with_overrides
    from brainbrr.windows import load_files

    with logging_to_stderr():
        trained = load_trained(checkpoint, weights, lambda config: with_overrides(config, overrides, checkpoint))  # type: ignore[arg-type] # click checked the choice
        windows = load_files(trained.config, recordings)
        windows.prepare()
        scoring = trained.config.scoring
        with counting("windows", len(windows)) as advance:
            for recording, trace in zip(
                windows.recordings, trace_windows(trained, windows, annotated=False, advance=advance), strict=True
            ):
                path = Path(recording.path)
                folder, stem = output_dir or path.parent, _stem(path)
                events = find_events(trace, scoring)
                written = [
                    write_bids_tsv(folder / f"{stem}_events.tsv", events, trace.duration_s, _start(path)),
                    write_csv_bi(folder / f"{stem}.predicted.csv_bi", events, trace.duration_s, stem),
                ]
                if probability:
                    written.append(write_trace(folder / f"{stem}.probability.npz", trace))
                if picture:
                    from brainbrr.scoring.plots import plot_timeline

                    written.append(plot_timeline(folder / f"{stem}.png", trace, events, scoring, trained.label))
                found = ", ".join(f"{event.onset_s:.1f}-{event.offset_s:.1f} s" for event in events) or "no seizure"
                click.echo(f"{path}: {found} -> {', '.join(file.name for file in written)}")


def _stem(path: Path) -> str:
    return path.stem.removesuffix("_eeg")


def _start(path: Path) -> datetime | None:
    """Return when a recording began, by its EDF header (bytes 168 to 184), or None where it does not say."""
    with path.open("rb") as file:
        text = file.read(184)[168:].decode("ascii", errors="replace")
    try:
        return datetime.strptime(text, "%d.%m.%y%H.%M.%S")
    except ValueError:
        return None
