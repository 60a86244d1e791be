"""Draw a preprocessed recording with its seizures, so that a person can see whether the labels sit on them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from brainbrr.atomic import atomic_write
from brainbrr.recordings.types import Seizure


def draw(
    signal_CN: npt.NDArray[np.float32],
    rate_hz: float,
    names: Sequence[str],
    path: Path,
    *,
    title: str,
    seizures: Sequence[Seizure] = (),
    predicted: Sequence[Seizure] = (),
    start_s: float = 0.0,
    unit: str = "deviations",
) -> None:
    """Write a PNG: one line per channel, seizures shaded over all of them, predictions as a band on top.

    Args:
        signal_CN: what to draw, (channels, N).
        rate_hz: its rate.
        names: channel names from top to bottom.
        path: the PNG.
        title: what it shows.
        seizures: labels, in seconds of the recording.
        predicted: events of a model, in seconds of the recording.
        start_s: time of the first sample in the recording.
        unit: of the signal.

    Raises:
        OutputError: the PNG cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    n = signal_CN.shape[1]
    duration_s = n / rate_hz
    figure = Figure(figsize=(min(40.0, max(12.0, duration_s / 8)), 10), layout="constrained", dpi=100)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    # Most samples lie within three spacings; what is larger overlaps its neighbors instead of flattening them.
    spacing = max(float(np.quantile(np.abs(signal_CN), 0.98)) * 2, 1e-9)
    time_s = start_s + np.arange(n) / rate_hz
    for row, values in enumerate(signal_CN):
        axes.plot(time_s, values - row * spacing, color="#1a1a1a", linewidth=0.4, rasterized=True)
    for kind, events, color, low, high in (
        ("labelled seizure", seizures, "#d62728", 0.0, 0.97),
        ("predicted seizure", predicted, "#1f77b4", 0.975, 1.0),
    ):
        for number, event in enumerate(events):
            label = kind if number == 0 else None
            axes.axvspan(event.onset_s, event.offset_s, low, high, color=color, alpha=0.22, linewidth=0, label=label)
            axes.axvline(event.onset_s, low, high, color=color, linewidth=0.8)
    axes.set_yticks([-row * spacing for row in range(len(names))], names)
    axes.set_ylim(-(len(names) - 0.2) * spacing, 1.2 * spacing)
    axes.set_xlim(start_s, start_s + duration_s)
    axes.set_xlabel("seconds from the start of the recording")
    axes.set_title(f"{title}\none channel spacing = {spacing:.3g} {unit}", loc="left", fontsize=10)
    if seizures or predicted:
        axes.legend(loc="lower right", fontsize=9)
    with atomic_write(path) as stream:
        figure.savefig(stream, format="png")
