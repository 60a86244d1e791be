"""From a checkpoint to probability traces: what ``evaluate`` and ``predict`` share."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, cast

import torch

from brainbrr import environment
from brainbrr.config import Config, config_from_mapping
from brainbrr.errors import CheckpointError
from brainbrr.models import Detector, build_detector
from brainbrr.scoring import Stitcher, Trace
from brainbrr.training.batches import make_loader
from brainbrr.training.checkpoints import read_checkpoint
from brainbrr.training.console import ignore
from brainbrr.training.continuation import refuse_smoke
from brainbrr.training.precision import autocast, choose_device
from brainbrr.windows import Windows

log = logging.getLogger(__name__)

Weights = Literal["auto", "average", "last"]


@dataclass(frozen=True)
class Trained:
    """A detector as a checkpoint holds it, ready to be asked."""

    path: Path
    step: int
    smoke: bool
    config: Config
    model: Detector
    device: torch.device
    weights: Literal["average", "last"]

    @property
    def label(self) -> str:
        """Name for people."""
        mark = " [SMOKE TEST]" if self.smoke else ""
        return f"{self.config.run.name}, step {self.step}, {self.config.model.encoder.name}{mark}"


def load_trained(path: Path, weights: Weights = "auto", changes: Callable[[Config], Config] | None = None) -> Trained:
    """Load the detector of a checkpoint.

    Args:
        path: the checkpoint.
        weights: the moving average, the last weights, or the average where there is one.
        changes: applied to the checkpoint's configuration.

    Raises:
        CheckpointError: it is damaged, a smoke run's while smoke mode is off, or has no such weights.
    """
    content = read_checkpoint(path)
    refuse_smoke(path, content, smoke=environment.smoke_test())
    config = config_from_mapping(content["config"], path)
    config = config if changes is None else changes(config)
    state = content["state"]
    if weights == "average" and state["ema"] is None:
        raise CheckpointError("holds no moving average of the weights", where=path, hint="Use --weights last")
    chosen: Literal["average", "last"] = "last" if weights == "last" or state["ema"] is None else "average"
    device = choose_device(config.run)
    model = build_detector(config)
    try:
        model.load_state_dict(_averaged(state["ema"]) if chosen == "average" else state["model"])
    except RuntimeError as error:
        raise CheckpointError(f"its weights do not fit its configuration: {error}", where=path) from error
    model.to(device).eval()
    log.info("%s: %s weights after step %d on %s", path, chosen, content["step"], device)
    return Trained(path, content["step"], content["smoke"], config, model, device, chosen)


def _averaged(state: dict[str, Any]) -> dict[str, Any]:
    prefix = "module."
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def trace_windows(
    trained: Trained, windows: Windows, *, annotated: bool, advance: Callable[[int], None] = ignore
) -> Iterator[Trace]:
    """Yield the probability trace of each recording of ``windows``, in their order, one recording in memory at a time.

    Args:
        trained: the detector.
        windows: of a held-out split or of single files, recording after recording.
        annotated: whether the recordings' seizures are known.
        advance: told the number of windows done.
    """
    for place, numbers in groupby(range(len(windows)), key=windows.recording_of):
        recording = windows.recordings[place]
        stitcher = Stitcher(
            recording.key,
            rate_hz=windows.rate_hz,
            n_samples=len(windows.labels(place)),
            trace_rate_hz=trained.config.scoring.trace_rate_hz,
            references=recording.seizures if annotated else None,
        )
        for number, probability, valid in _probabilities(trained, windows, list(numbers)):
            stitcher.add(int(windows.starts[number]), probability, valid)
            advance(1)
        yield stitcher.trace()


@torch.inference_mode()
def _probabilities(trained: Trained, windows: Windows, numbers: list[int]) -> Iterator[tuple[int, Any, Any]]:
    training = trained.config.training
    size = training.validation.batch_size or training.batch_size
    batches = [numbers[first : first + size] for first in range(0, len(numbers), size)]
    loader = make_loader(windows, batches, workers=0, pin_memory=trained.device.type == "cuda")
    for batch in loader:
        with autocast(training, trained.device):
            logits_BT = trained.model(batch["signal"].to(trained.device))
        probability_BT = torch.sigmoid(logits_BT.float()).cpu().numpy()
        rows = zip(batch["window"].tolist(), probability_BT, batch["valid"].numpy(), strict=True)
        yield from cast("Iterator[tuple[int, Any, Any]]", rows)
