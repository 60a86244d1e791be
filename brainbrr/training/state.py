"""All that a resumed run needs, in one object."""

import random
from collections.abc import Collection
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch

from brainbrr.training import distributed
from brainbrr.windows import WindowSampler


@dataclass
class Progress:
    """Where the run is. Plain numbers, equal on all processes."""

    step: int = 0
    """Optimizer steps taken, those skipped for a non-finite gradient included. Where the data is, the sampler knows."""
    windows_seen: int = 0
    """Windows trained on since the first step, over all processes."""
    skipped_steps: int = 0
    """Steps skipped for a loss or gradient that was not finite."""
    scaler_skips: int = 0
    """Steps that the fp16 scaler skipped to lower its scale."""
    validated_step: int = 0
    """Step after which the model was last scored."""
    best: list[tuple[float, int]] = field(default_factory=list)
    """(metric, step) of the scored steps, best first."""
    validations_without_gain: int = 0
    """Validations since the best metric."""
    stopped_early: bool = False
    """Whether patience ran out: nothing is left to do."""

    def state_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return {item.name: getattr(self, item.name) for item in fields(self)} | {"best": list(self.best)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the fields."""
        for item in fields(self):
            setattr(self, item.name, state[item.name])
        self.best = [(float(metric), int(step)) for metric, step in state["best"]]


@dataclass
class TrainState:
    """The parts of a run that change, each with ``state_dict`` and ``load_state_dict``."""

    model: torch.nn.Module
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LambdaLR
    scaler: torch.amp.GradScaler
    sampler: WindowSampler
    ema: torch.optim.swa_utils.AveragedModel | None
    progress: Progress = field(default_factory=Progress)
    n_planned: int = 0
    """Planned optimizer steps, on which the schedule depends: a resumed run must plan the same."""

    def state_dict(self) -> dict[str, Any]:
        """Return everything as tensors and plain data. All processes must call this together."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "sampler": self.sampler.state_dict(),
            "ema": None if self.ema is None else self.ema.state_dict(),
            "progress": self.progress.state_dict(),
            "n_planned": self.n_planned,
            "random": distributed.gather(random_state()),
        }

    def load_state_dict(self, state: dict[str, Any], *, same_data: bool = True, changed: Collection[str] = ()) -> None:
        """Take over everything, also from a run with another number of processes.

        A process beyond those of the saved run keeps the random state it has.

        Args:
            state: what ``state_dict`` returned.
            same_data: off, the sampler begins an epoch.
            changed: keys of the configuration that are not those of the saved run, and take effect.
        """
        self.model.load_state_dict(state["model"])
        if "training.optimizer.name" not in changed:
            self._load_optimizer(state, keep_settings=bool(changed))
        if state["scaler"] and self.scaler.is_enabled():
            self.scaler.load_state_dict(state["scaler"])
        if same_data:
            self.sampler.load_state_dict(state["sampler"])
        else:
            self.sampler.set_epoch(state["sampler"]["epoch"])
        if self.ema is not None and state["ema"] is not None:
            self.ema.load_state_dict(state["ema"])
        elif self.ema is not None:
            self.ema.module.load_state_dict(state["model"])
        self.progress.load_state_dict(state["progress"])
        if distributed.rank() < len(state["random"]):
            load_random_state(state["random"][distributed.rank()])

    def _load_optimizer(self, state: dict[str, Any], *, keep_settings: bool) -> None:
        """Take over moments and the place in the schedule; rates and decay too unless this run's are to be kept."""
        settings = [{key: group[key] for key in group if key != "params"} for group in self.optimizer.param_groups]
        base_lrs = self.schedule.base_lrs
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        if not keep_settings:
            return
        self.schedule.base_lrs = base_lrs
        for group, kept, base, factor in zip(
            self.optimizer.param_groups, settings, base_lrs, self.schedule.lr_lambdas, strict=True
        ):
            group.update(kept)
            group["lr"] = base * factor(self.schedule.last_epoch)


def random_state() -> dict[str, Any]:
    """Return the state of every global generator of this process: Python's, numpy's, torch's."""
    # Not ours, but other people's code draws from numpy's global generator.
    legacy = np.random.get_state(legacy=False)  # noqa: NPY002
    assert isinstance(legacy, dict)
    words = torch.from_numpy(legacy["state"]["key"].astype(np.int64))
    return {
        "python": random.getstate(),
        "numpy": {**legacy, "state": {"key": words, "pos": int(legacy["state"]["pos"])}},
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def load_random_state(state: dict[str, Any]) -> None:
    """Put back what :func:`random_state` returned."""
    version, keys, gauss = state["python"]
    random.setstate((version, tuple(keys), gauss))
    words = state["numpy"]["state"]["key"].numpy().astype(np.uint32)
    np.random.set_state({**state["numpy"], "state": {**state["numpy"]["state"], "key": words}})  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"][: torch.cuda.device_count()])


def seed_everything(seed: int) -> None:
    """Seed every global generator of this process."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    torch.manual_seed(seed)
