"""Optional trackers beside ``metrics.jsonl``: TensorBoard and Weights & Biases (extra ``trackers``)."""

import contextlib
import importlib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from brainbrr.config import Config
from brainbrr.errors import ConfigError


class Tracker(Protocol):
    """Takes numbers by name."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Take the numbers of a step."""

    def close(self) -> None:
        """Write out what is pending."""


class TensorBoard:
    """Event files below the output folder."""

    def __init__(self, folder: Path, config: Config, *, smoke: bool) -> None:
        module = _import("torch.utils.tensorboard", "tracking.tensorboard")
        self._writer = module.SummaryWriter(str(folder / "tensorboard"))
        self._writer.add_text("run", f"{'SMOKE TEST, not for training: ' if smoke else ''}{config.run.name}")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Add one scalar per number."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush the event file."""
        self._writer.close()


class WeightsAndBiases:
    """A run of Weights & Biases, online or below the output folder."""

    def __init__(self, folder: Path, config: Config, *, smoke: bool) -> None:
        wandb = _import("wandb", "tracking.wandb")
        self._run = wandb.init(
            project=config.tracking.wandb_project,
            name=config.run.name,
            dir=str(folder),
            mode=config.tracking.wandb,
            config=config.model_dump(mode="json"),
            tags=["smoke"] if smoke else [],
        )

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Log the numbers of a step."""
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()


def _import(module: str, key: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            "this tracker is not installed", where=key, got=str(error), hint="pip install 'brainbrr[trackers]'"
        ) from error


def check_trackers(config: Config) -> None:
    """Import what the configuration asks for, before anything is written.

    Raises:
        ConfigError: a tracker is not installed.
    """
    if config.tracking.tensorboard:
        _import("torch.utils.tensorboard", "tracking.tensorboard")
    if config.tracking.wandb != "off":
        _import("wandb", "tracking.wandb")


class Trackers:
    """All trackers a configuration asks for."""

    def __init__(self, trackers: list[Tracker]) -> None:
        self._trackers = trackers

    def write(self, step: int, prefix: str, values: Mapping[str, float]) -> None:
        """Hand finite numbers to every tracker."""
        if not self._trackers:
            return
        finite = {f"{prefix}/{name}": value for name, value in values.items() if math.isfinite(value)}
        for tracker in self._trackers:
            tracker.write(step, finite)


@contextlib.contextmanager
def open_trackers(config: Config, folder: Path, *, smoke: bool, writer: bool) -> Iterator[Trackers]:
    """Open the trackers of ``config.tracking`` on the writer, and close them at the end.

    Raises:
        ConfigError: one that is asked for is not installed.
    """
    trackers: list[Tracker] = []
    with contextlib.ExitStack() as stack:
        if writer and config.tracking.tensorboard:
            trackers.append(TensorBoard(folder, config, smoke=smoke))
            stack.callback(trackers[-1].close)
        if writer and config.tracking.wandb != "off":
            trackers.append(WeightsAndBiases(folder, config, smoke=smoke))
            stack.callback(trackers[-1].close)
        yield Trackers(trackers)
