"""Where a run's numbers come from: the header of a checkpoint and the record ``run.json``."""

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from brainbrr import __version__, environment
from brainbrr.config import Config
from brainbrr.models.kernels import resolve_kernel
from brainbrr.training import distributed
from brainbrr.training.checkpoints import SCHEMA
from brainbrr.training.output import OutputFolder
from brainbrr.training.state import TrainState


def code_in_use(config: Config, device: torch.device) -> dict[str, Any]:
    """Return versions, device, kernel and threads: what another last bit may come from."""
    return {
        "brainbrr": __version__,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "device": describe_device(device),
        "kernel": resolve_kernel(config.model.mamba.kernel, device),
        "threads": torch.get_num_threads(),
        "processes": distributed.world_size(),
    }


def describe_device(device: torch.device) -> str:
    """Return the device's type and, on CUDA, its name."""
    return f"cuda ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else device.type


def header(config: Config, device: torch.device, *, smoke: bool, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a checkpoint says beside ``step`` and ``state``: plain data."""
    return {
        "schema": SCHEMA,
        "smoke": smoke,
        "config": config.model_dump(mode="json"),
        "code": code_in_use(config, device),
        "environment": environment.in_force(),
        "data": dict(facts),
    }


class RunRecord:
    """``run.json``: written when a session starts and again when it ends."""

    def __init__(
        self,
        config: Config,
        windows: Any,
        validation_windows: Any,
        device: torch.device,
        *,
        smoke: bool,
        state: TrainState,
        resumed_from: Path | None,
    ) -> None:
        self._state = state
        self._record: dict[str, Any] = {
            "name": config.run.name,
            "smoke": smoke,
            "status": "running",
            **code_in_use(config, device),
            "encoder": config.model.encoder.name,
            "environment": environment.in_force(),
            "train": describe_windows(windows),
            "validation": None if validation_windows is None else describe_windows(validation_windows),
            "resumed_from": None if resumed_from is None else str(resumed_from),
            "first_step": state.progress.step + 1,
            "planned_steps": state.n_planned,
            "config": config.model_dump(mode="json"),
        }

    def start(self, folder: OutputFolder) -> None:
        """Write that the session is running."""
        folder.write_record(self._record)

    def end(self, folder: OutputFolder, status: str, seconds: float) -> None:
        """Write how the session ended (the writer only)."""
        if not distributed.is_writer():
            return
        progress = self._state.progress
        folder.write_record(
            {
                **self._record,
                "status": status,
                "steps": progress.step,
                "epoch": self._state.sampler.epoch,
                "skipped_steps": progress.skipped_steps,
                "best": [{"score": score, "step": step} for score, step in progress.best],
                "seconds": round(seconds, 3),
            }
        )


def describe_windows(windows: Any) -> dict[str, Any]:
    """Return what was used of what was found."""
    return {
        "recordings_used": windows.n_used,
        "recordings_found": windows.n_found,
        "skipped": [{"recording": item.key, "reason": item.reason} for item in windows.skipped],
        "windows": windows.n_windows,
        "seizure_windows": windows.n_seizure_windows,
        "seizure_share": windows.seizure_share,
        "seizures": sum(len(recording.seizures) for recording in windows.recordings),
    }
