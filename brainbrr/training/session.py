"""One session of training: everything that is decided before the first step, and what is said after the last.

What can refuse a run comes first and leaves nothing behind: the configuration, the checkpoint to start from, the data
and the sampler's verdict on it, the model. Only then are files written.
"""

import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from brainbrr import environment
from brainbrr.config import Config
from brainbrr.errors import CheckpointError, ConfigError
from brainbrr.models import build_detector, parameter_groups
from brainbrr.models.allocator import keep_freed_memory
from brainbrr.training import distributed
from brainbrr.training.checkpoints import checkpoint_path, prune_checkpoints, write_checkpoint
from brainbrr.training.console import SMOKE_BANNER, Silent, make_console
from brainbrr.training.continuation import check_same_data, check_start, find_start
from brainbrr.training.loop import End, Loop, planned_steps
from brainbrr.training.losses import SummedLoss, best_constant, build_loss, positive_weight
from brainbrr.training.optimizers import build_optimizer
from brainbrr.training.output import MetricsLog, OutputFolder
from brainbrr.training.precision import build_scaler, choose_device, numerics
from brainbrr.training.provenance import RunRecord, header
from brainbrr.training.schedules import build_schedule
from brainbrr.training.signals import StopRequest
from brainbrr.training.state import TrainState, seed_everything
from brainbrr.training.tracking import check_trackers, open_trackers
from brainbrr.training.validation import Validation
from brainbrr.windows import Windows, WindowSampler, load_split, make_sampler
from brainbrr.windows.cutting import FULL, PARTIAL

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """What the command line says beside the configuration."""

    output_dir: Path
    pause_at: int | None = None
    """End the session after this step; the plan and its schedule stay what the configuration says."""
    fresh: bool = False
    resume: Path | None = None
    override_config: bool = False


@dataclass(frozen=True)
class Outcome:
    """How a session ended."""

    end: End
    exit_status: int
    checkpoint: Path


def train(config: Config, options: Options) -> Outcome:
    """Train, from the start or from where an earlier session left off, and write what came of it.

    Raises:
        ConfigError: the configuration asks for what is not here.
        NoSeizureError: the training windows hold no seizure and smoke mode is off.
        CheckpointError: the checkpoint to start from is damaged, marked, or of another configuration.
        DataError: recordings cannot be used.
        OutputError: the output folder cannot be written.
        NonFiniteError: a loss or gradient was not finite.
    """
    smoke = environment.smoke_test()
    environment.limit_files()
    device = choose_device(config.run)
    if device.type == "cpu":
        keep_freed_memory()
    with contextlib.ExitStack() as stack:
        stack.enter_context(distributed.process_group(device))
        stack.enter_context(numerics(config.run, device))
        folder = OutputFolder(options.output_dir)
        if distributed.is_writer():
            stack.enter_context(folder.held())
        if smoke and distributed.is_writer():
            log.warning(SMOKE_BANNER)
        try:
            return _train(config, options, folder, device, smoke=smoke)
        finally:
            if smoke and distributed.is_writer():
                log.warning(SMOKE_BANNER)


def _train(config: Config, options: Options, folder: OutputFolder, device: torch.device, *, smoke: bool) -> Outcome:
    began = time.monotonic()
    if distributed.is_writer():
        check_trackers(config)
    fresh = options.fresh or (config.run.existing == "fresh" and options.resume is None)
    start = None if fresh else find_start(folder, options.resume)
    changed: list[str] = []
    if start is not None:
        changed = check_start(start, config, smoke=smoke, override=options.override_config)
    run = _prepare(config, device)
    if start is not None:
        same_data = check_same_data(start, run.facts(), override=options.override_config)
        try:
            run.state.load_state_dict(start.content["state"], same_data=same_data, changed=changed)
        except (RuntimeError, ValueError, KeyError) as error:
            raise CheckpointError(f"does not fit the configured model: {error}", where=start.path) from error
    resumed_from = None if start is None else start.path
    metrics_bytes = start.content["metrics_bytes"] if start is not None and start.in_place else 0
    # Its tensors are copied by now: let them go before the first step.
    del start

    state = run.state
    record = RunRecord(config, run.windows, run.held_out, device, smoke=smoke, state=state, resumed_from=resumed_from)
    writer = distributed.is_writer()
    stop = StopRequest()
    with contextlib.ExitStack() as stack:
        stack.enter_context(stop.listening())
        metrics = None
        if writer:
            folder.prepare(fresh=fresh, step=state.progress.step)
            record.start(folder)
            metrics = MetricsLog(folder.metrics, smoke=smoke, start=metrics_bytes)
            stack.callback(metrics.close)
        trackers = stack.enter_context(open_trackers(config, folder.root, smoke=smoke, writer=writer))
        console = make_console(config.training.log_every_steps) if writer else Silent()
        stack.callback(console.close)
        loop = Loop(
            config=config,
            state=state,
            forward=_wrap(state.model, device),
            loss=run.loss,
            windows=run.windows,
            validation=None if run.held_out is None else Validation(config, run.held_out, run.loss, device),
            device=device,
            write_checkpoint=_writer_of(config, folder, header(config, device, smoke=smoke, facts=run.facts())),
            metrics=metrics,
            trackers=trackers,
            console=console,
            stop=stop,
            pause_at=options.pause_at or config.training.pause_at_step,
        )
        try:
            end = loop.run()
        except BaseException as error:
            record.end(folder, f"failed: {type(error).__name__}: {error}", time.monotonic() - began)
            raise
    record.end(folder, end, time.monotonic() - began)
    last = checkpoint_path(folder.checkpoints, state.progress.step)
    if writer:
        log.info("%s after step %d of %d; checkpoint %s", end, state.progress.step, state.n_planned, last)
    return Outcome(end, stop.exit_status if end == "interrupted" else 0, last)


@dataclass(frozen=True)
class _Run:
    """What is trained, on what, towards what."""

    windows: Windows
    held_out: Windows | None
    loss: SummedLoss
    state: TrainState

    def facts(self) -> dict[str, Any]:
        """Return what a continued run must find again."""
        return {
            "recordings": self.windows.n_used,
            "windows": len(self.windows),
            "fingerprint": self.state.sampler.state_dict()["windows"],
            "planned_steps": self.state.n_planned,
        }


def _prepare(config: Config, device: torch.device) -> _Run:
    """Index and preprocess the recordings, hear the sampler's verdict, build the model and all that trains it."""
    training, n_processes = config.training, distributed.world_size()
    if training.batch_size < n_processes:
        raise ConfigError(
            "fewer windows in a batch than processes",
            where="training.batch_size",
            got=f"{training.batch_size} for {n_processes} processes",
        )
    seed_everything(config.run.seed)
    windows = load_split(config, "train", rank=distributed.rank(), world_size=n_processes)
    # One order for all processes: each takes its share of every batch (brainbrr.training.batches).
    sampler = make_sampler(config, windows, seed=config.run.seed, require_seizures=True)
    held_out = None
    if training.validation.split != "none":
        held_out = load_split(config, training.validation.split, rank=distributed.rank(), world_size=n_processes)
        held_out.prepare()
    weight = positive_weight(training.loss, windows.seizure_share)
    loss = build_loss(training.loss, weight)
    # Windows without a single seizure say nothing about how rare seizures are.
    share = drawn_share(windows, sampler)
    first_answer = best_constant(training.loss, weight, share) if share else None
    model = build_detector(config, seizure_share=first_answer).to(device)
    # The weights are drawn, the same everywhere; from here on each process drops out other units.
    torch.manual_seed(config.run.seed + distributed.rank())
    return _Run(windows, held_out, loss, _build_state(config, model, sampler, device))


def drawn_share(windows: Windows, sampler: WindowSampler) -> float:
    """Return about the share of seizure samples in what ``sampler`` draws, by its quotas for each kind of window."""
    n_partial, n_full = (int((windows.kinds == kind).sum()) for kind in (PARTIAL, FULL))
    within_partial = (windows.seizure_share * len(windows) - n_full) / n_partial if n_partial else 0.0
    drawn = sampler.quotas[FULL] + sampler.quotas[PARTIAL] * min(max(within_partial, 0.0), 1.0)
    return float(drawn / sampler.n_epoch)


def _writer_of(config: Config, folder: OutputFolder, head: dict[str, Any]) -> Callable[[TrainState, int], None]:
    """Return what writes a checkpoint of a state, and deletes those that are no longer wanted."""

    def write(state: TrainState, metrics_bytes: int) -> None:
        progress = state.progress
        content = {**head, "step": progress.step, "metrics_bytes": metrics_bytes, "state": state.state_dict()}
        if not distributed.is_writer():
            return
        write_checkpoint(checkpoint_path(folder.checkpoints, progress.step), content)
        kept = config.checkpoints
        best = [step for _, step in progress.best]
        prune_checkpoints(folder.checkpoints, keep_last=kept.keep_last, best=best, keep_best=kept.keep_best)

    return write


def _build_state(config: Config, model: torch.nn.Module, sampler: WindowSampler, device: torch.device) -> TrainState:
    training = config.training
    optimizer = build_optimizer(training.optimizer, parameter_groups(model, training.optimizer.weight_decay))
    n_planned = planned_steps(config, sampler.n_epoch)
    return TrainState(
        model=model,
        optimizer=optimizer,
        schedule=build_schedule(training.schedule, optimizer, n_planned),
        scaler=build_scaler(training, device),
        sampler=sampler,
        ema=None if training.ema_decay is None else _build_ema(model, training.ema_decay),
        n_planned=n_planned,
    )


def _build_ema(model: torch.nn.Module, decay: float) -> torch.optim.swa_utils.AveragedModel:
    """Return a moving average of the parameters; buffers (the statistics of norms) are copied as they are."""
    average = torch.optim.swa_utils.get_ema_multi_avg_fn(decay)
    return torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=average)


def _wrap(model: torch.nn.Module, device: torch.device) -> torch.nn.Module:
    if distributed.world_size() == 1:
        return model
    return torch.nn.parallel.DistributedDataParallel(model, device_ids=[device] if device.type == "cuda" else None)
