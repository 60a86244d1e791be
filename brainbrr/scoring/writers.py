"""Results as files, each whole or not at all."""

import io
import json
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from brainbrr.atomic import atomic_write
from brainbrr.scoring.intervals import Event
from brainbrr.scoring.traces import Trace

BIDS_COLUMNS = ("onset", "duration", "eventType", "confidence", "channels", "dateTime", "recordingDuration")


def write_bytes(path: str | Path, content: bytes) -> Path:
    """Write a whole file, or leave the one before as it was. Missing folders are made.

    Raises:
        OutputError: the file cannot be written.
    """
    path = Path(path)
    with atomic_write(path) as stream:
        stream.write(content)
    return path


def write_json(path: str | Path, plain: Mapping[str, Any]) -> Path:
    """Write plain data; NaN and infinity are refused, for JSON has neither."""
    return write_bytes(path, (json.dumps(plain, indent=2, allow_nan=False) + "\n").encode())


def write_bids_tsv(path: str | Path, events: Sequence[Event], duration_s: float, start: datetime | None = None) -> Path:
    """Write events as BIDS TSV with SzCORE's columns.

    Source: Dan et al., "SzCORE: seizure community open-source research evaluation framework" (2024), annotation format.
    A recording without events gets one ``bckg`` row over its whole length; ``start`` is when the recording began.
    """
    clock = "n/a" if start is None else start.strftime("%Y-%m-%d %H:%M:%S")
    rows = [(event.onset_s, event.offset_s - event.onset_s, "sz", event.confidence) for event in events]
    lines = ["\t".join(BIDS_COLUMNS)]
    for onset, duration, kind, confidence in rows or [(0.0, duration_s, "bckg", math.nan)]:
        sure = "n/a" if math.isnan(confidence) else f"{confidence:.4f}"
        lines.append("\t".join((f"{onset:.4f}", f"{duration:.4f}", kind, sure, "n/a", clock, f"{duration_s:.4f}")))
    return write_bytes(path, ("\n".join(lines) + "\n").encode())


def write_csv_bi(path: str | Path, events: Sequence[Event], duration_s: float, name: str) -> Path:
    """Write events as TUSZ's ``csv_bi``, which NEDC's scorers read; ``name`` is the recording's file stem.

    A recording without events gets one ``bckg`` row over its whole length, as in TUSZ.
    """
    lines = [
        "# version = csv_v1.0.0",
        f"# bname = {name}",
        f"# duration = {duration_s:.4f} secs",
        "# montage_file = nedc_eas_default_montage.txt",
        "#",
        "channel,start_time,stop_time,label,confidence",
    ]
    for event in events:
        sure = 1.0 if math.isnan(event.confidence) else event.confidence
        lines.append(f"TERM,{event.onset_s:.4f},{event.offset_s:.4f},seiz,{sure:.4f}")
    if not events:
        lines.append(f"TERM,0.0000,{duration_s:.4f},bckg,1.0000")
    return write_bytes(path, ("\n".join(lines) + "\n").encode())


def write_trace(path: str | Path, trace: Trace) -> Path:
    """Write a probability trace as ``.npz``: probability (NaN where no window spoke), rate_hz, duration_s, key."""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer, probability=trace.probability_N, rate_hz=trace.rate_hz, duration_s=trace.duration_s, key=trace.key
    )
    return write_bytes(path, buffer.getvalue())
