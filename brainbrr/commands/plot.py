"""``brainbrr plot``: draw a recording with its seizures."""

from pathlib import Path

import click


@click.command()
@click.argument("recording", type=click.Path(path_type=Path))
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), default=None, help="PNG; by default named after RECORDING."
)
@click.option("--config", type=click.Path(), default=None, help="Configuration whose preprocessing and montage to use.")
@click.option(
    "--predictions", type=click.Path(path_type=Path), default=None, help="Events of a model (SzCORE events.tsv)."
)
@click.option("--start", "start_s", type=click.FloatRange(min=0), default=0.0, help="First second to draw.")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), default=None, help="How much to draw.")
def plot(
    recording: Path,
    output: Path | None,
    config: str | None,
    predictions: Path | None,
    start_s: float,
    seconds: float | None,
) -> None:
    """Draw the preprocessed channels of an EDF file, labelled seizures shaded, predicted ones on top."""
    from brainbrr.config import load_config
    from brainbrr.config.data import Data, Preprocessing
    from brainbrr.errors import ConfigError
    from brainbrr.montage import MONTAGES
    from brainbrr.recordings.bids import read_events
    from brainbrr.recordings.edf import read_recording
    from brainbrr.recordings.picture import draw
    from brainbrr.recordings.single import find_recording
    from brainbrr.windows.preprocess import preprocess

    loaded = load_config(config) if config else None
    data, preprocessing = (loaded.data, loaded.preprocessing) if loaded else (Data(), Preprocessing())
    found = find_recording(recording, data.montage)
    if start_s >= found.duration_s:
        raise ConfigError(
            "the recording ends before", where="--start", got=start_s, expected=f"below {found.duration_s:g}"
        )
    predicted = read_events(predictions).seizures if predictions else ()
    signal_CN, rate = read_recording(found, data.montage)
    ready_CN = preprocess(signal_CN, rate, preprocessing)
    rate_hz = preprocessing.rate_hz
    first = round(start_s * rate_hz)
    last = ready_CN.shape[1] if seconds is None else round((start_s + seconds) * rate_hz)
    output = output or Path(f"{recording.stem}.png")
    title = f"{recording.name}, {found.rate_hz:g} Hz"
    draw(
        ready_CN[:, first:last], rate_hz, MONTAGES[data.montage], output, title=title,
        seizures=found.seizures, predicted=predicted, start_s=first / rate_hz,
        unit="microvolts" if preprocessing.standardize == "none" else "deviations",
    )  # fmt: skip
    labels = "no label file" if found.annotation is None else f"{len(found.seizures)} labelled seizures"
    click.echo(f"{output}: {found.duration_s:g} s, {labels}, {len(predicted)} predicted")
