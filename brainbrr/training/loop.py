"""The training loop: what happens in one optimizer step, and what happens after it."""

import contextlib
import logging
import math
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch

from brainbrr.config import Config
from brainbrr.errors import NonFiniteError
from brainbrr.training import distributed
from brainbrr.training.batches import Group, load_groups, steps_per_epoch
from brainbrr.training.console import Console
from brainbrr.training.losses import SummedLoss
from brainbrr.training.output import MetricsLog
from brainbrr.training.precision import autocast
from brainbrr.training.signals import StopRequest
from brainbrr.training.state import TrainState
from brainbrr.training.tracking import Trackers
from brainbrr.training.validation import Validation
from brainbrr.windows import Windows

log = logging.getLogger(__name__)

End = Literal["finished", "stopped early", "paused", "interrupted"]


def planned_steps(config: Config, n_windows: int) -> int:
    """Return how many optimizer steps the run will really take: the horizon of the schedule.

    Args:
        config: ``training.max_steps``, or else ``training.epochs``; a pause changes nothing.
        n_windows: windows that the sampler draws in an epoch, over all processes.
    """
    training = config.training
    return training.max_steps or training.epochs * steps_per_epoch(n_windows, training.batch_size, training.accumulate)


@dataclass
class Loop:
    """Optimizer steps, validations and checkpoints until there is a reason to end."""

    config: Config
    state: TrainState
    forward: torch.nn.Module
    """``state.model``, wrapped where there are several processes."""
    loss: SummedLoss
    windows: Windows
    validation: Validation | None
    device: torch.device
    write_checkpoint: Callable[[TrainState, int], None]
    """Given the length in bytes that the metrics log has by then."""
    metrics: MetricsLog | None
    """On the writer only."""
    trackers: Trackers
    console: Console
    stop: StopRequest
    pause_at: int | None = None

    def __post_init__(self) -> None:
        self._parameters = [parameter for parameter in self.state.model.parameters() if parameter.requires_grad]
        self._saved_step: int | None = None
        self._saved_at = time.monotonic()
        self._stop_agreed = False
        self._save_agreed = False

    def run(self) -> End:
        """Train until the plan is done, patience runs out, the pause is reached or somebody asks to stop.

        The last thing written is a checkpoint of the last step, whatever the reason.
        """
        progress = self.state.progress
        self.console.start(step=progress.step, n_steps=min(self.state.n_planned, self.pause_at or self.state.n_planned))
        # A run that was stopped between a step and its validation takes it up here.
        self._validate_if_due()
        with contextlib.closing(self._groups()) as groups:
            while (end := self._reason_to_end()) is None:
                self._train_step(next(groups))
                self._validate_if_due()
                if self._checkpoint_is_due():
                    self._checkpoint()
        if self._saved_step != progress.step:
            self._checkpoint()
        return end

    def _train_step(self, group: Group) -> None:
        """Take one optimizer step: forward, backward, clip, step, schedule."""
        state, training = self.state, self.config.training
        n_valid = self._agree(group)
        self.forward.train()
        state.optimizer.zero_grad(set_to_none=True)
        # DDP averages gradients over processes: times their number, they add up to the mean over all valid samples.
        scale = distributed.world_size() / max(n_valid, 1.0)
        loss = torch.zeros((), device=self.device)
        for batch, is_last in _mark_last(group.batches):
            signal_BCT, label_BT, valid_BT = (self._to_device(batch[key]) for key in ("signal", "label", "valid"))
            with self._gradients_synced(is_last):
                with autocast(training, self.device):
                    logits_BT = self.forward(signal_BCT)
                    batch_loss = self.loss(logits_BT, label_BT, valid_BT) * scale
                state.scaler.scale(batch_loss).backward()
            loss += batch_loss.detach()
        state.scaler.unscale_(state.optimizer)
        norm = self._clip(training.clip_norm)
        distributed.add_up(loss)
        # The one wait for the device in a step: what is not finite must be seen before the optimizer steps.
        loss_value, norm_value = torch.stack([loss / distributed.world_size(), norm]).tolist()
        rate = float(state.optimizer.param_groups[0]["lr"])
        if math.isfinite(loss_value) and math.isfinite(norm_value):
            state.scaler.step(state.optimizer)
            state.scaler.update()
            state.schedule.step()
            if state.ema is not None:
                state.ema.update_parameters(state.model)
            outcome = "step"
        else:
            outcome = self._refuse_step(group, loss_value, norm_value)
        state.progress.step += 1
        state.sampler.advance(group.n_global)
        state.progress.windows_seen += group.n_global
        self._report_step(group, loss_value, norm_value, rate, outcome)

    def _to_device(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(self.device, non_blocking=True)

    def _gradients_synced(self, is_last: bool) -> contextlib.AbstractContextManager[Any]:
        """Let DDP exchange gradients in the last batch of a step only."""
        if is_last or not isinstance(self.forward, torch.nn.parallel.DistributedDataParallel):
            return contextlib.nullcontext()
        return self.forward.no_sync()

    def _clip(self, clip_norm: float | None) -> torch.Tensor:
        """Scale the gradient down to ``clip_norm`` and return its norm before."""
        if clip_norm is not None:
            return torch.nn.utils.clip_grad_norm_(self._parameters, clip_norm)
        return torch.nn.utils.get_total_norm([p.grad for p in self._parameters if p.grad is not None])

    def _agree(self, group: Group) -> float:
        """Return the valid samples of the whole step; let all processes know who wants to stop or to save."""
        n_valid = float(sum(int(batch["valid"].sum()) for batch in group.batches))
        minutes = self.config.checkpoints.every_minutes
        elapsed = (time.monotonic() - self._saved_at) / 60
        save = minutes is not None and elapsed >= minutes and distributed.is_writer()
        if distributed.world_size() == 1:
            self._stop_agreed, self._save_agreed = bool(self.stop), save
            return n_valid
        numbers = torch.tensor([n_valid, bool(self.stop), save], dtype=torch.float64, device=self.device)
        n_valid, stop, save_votes = distributed.add_up(numbers).tolist()
        self._stop_agreed, self._save_agreed = stop > 0, save_votes > 0
        return float(n_valid)

    def _refuse_step(self, group: Group, loss: float, norm: float) -> str:
        """Leave the weights alone after a loss or gradient that is not finite, or end the run.

        Raises:
            NonFiniteError: the policy is ``stop``, or too many steps were skipped.
        """
        state, training = self.state, self.config.training
        if state.scaler.is_enabled() and math.isfinite(loss):
            # The scaler tries large scales on purpose: it skips the step itself and halves its scale.
            state.scaler.step(state.optimizer)
            state.scaler.update()
            state.progress.scaler_skips += 1
            return "scale lowered"
        state.scaler.update()
        state.optimizer.zero_grad(set_to_none=True)
        state.progress.skipped_steps += 1
        own = [self.windows.describe(number) for number in group.windows]
        named = list(dict.fromkeys(name for names in distributed.gather(own) for name in names))
        got = f"loss {loss}, gradient norm {norm}"
        where = f"step {state.progress.step + 1}, windows {', '.join(named)}"
        if training.nonfinite == "stop":
            raise NonFiniteError(
                "not finite, stopped before the optimizer step",
                where=where,
                got=got,
                hint="Look at these recordings; training.nonfinite: skip leaves such steps out",
            )
        if state.progress.skipped_steps > training.max_nonfinite:
            raise NonFiniteError(
                "too many steps were not finite",
                where=where,
                got=f"{state.progress.skipped_steps} skipped, the last with {got}",
                expected=f"at most {training.max_nonfinite} (training.max_nonfinite)",
            )
        log.warning("skipped %s: %s", where, got)
        return "skipped"

    def _report_step(self, group: Group, loss: float, norm: float, rate: float, outcome: str) -> None:
        progress = self.state.progress
        values = {"loss": loss, "grad_norm": norm, "learning_rate": rate}
        if self.metrics is not None:
            self.metrics.write(
                event=outcome, step=progress.step, epoch=self.state.sampler.epoch, windows=group.n_global, **values
            )
        self.trackers.write(progress.step, "train", values)
        self.console.step(step=progress.step, loss=loss, learning_rate=rate, n_windows=group.n_global)

    def _groups(self) -> Generator[Group, None, None]:
        """Yield this process's share of one optimizer step after the other, from where the sampler is."""
        sampler, training = self.state.sampler, self.config.training
        while True:
            yield from load_groups(
                self.windows,
                list(sampler),
                batch_size=training.batch_size,
                accumulate=training.accumulate,
                workers=training.workers,
                pin_memory=self.device.type == "cuda",
            )
            sampler.set_epoch(sampler.epoch + 1)

    def _reason_to_end(self) -> End | None:
        progress = self.state.progress
        if progress.step >= self.state.n_planned:
            return "finished"
        if progress.stopped_early:
            return "stopped early"
        if self.pause_at is not None and progress.step >= self.pause_at:
            return "paused"
        if self._stop_agreed or (self.stop and distributed.world_size() == 1):
            return "interrupted"
        return None

    def _validation_is_due(self) -> bool:
        """Say whether the current step is one to validate after; a pause or an interruption makes none."""
        progress, every = self.state.progress, self.config.training.validation.every_steps
        if self.validation is None or progress.step in (0, progress.validated_step):
            return False
        if progress.step == self.state.n_planned:
            return True
        return len(self.state.sampler) == 0 if every is None else progress.step % every == 0

    def _validate_if_due(self) -> None:
        if not self._validation_is_due():
            return
        assert self.validation is not None
        progress, validation = self.state.progress, self.config.training.validation
        self.console.validation(n_windows=len(self.validation.order))
        model = self.state.model if self.state.ema is None else self.state.ema.module
        scores = self.validation.run(model, self.console.validated, lambda: bool(self.stop))
        if scores is None:
            return
        progress.validated_step = progress.step
        is_best = self._rank(scores.better(validation.metric))
        values = {"loss": scores.loss, "auroc": scores.auroc, "auprc": scores.auprc}
        if self.metrics is not None:
            self.metrics.write(
                event="validation", step=progress.step, windows=scores.n_windows, **values, undefined=scores.reasons
            )
        self.trackers.write(progress.step, "validation", values)
        self.console.scores(progress.step, scores)
        if is_best and self.config.checkpoints.keep_best:
            self._checkpoint()

    def _rank(self, score: float) -> bool:
        """Enter a score among the best and say whether it is one to keep; count those without a gain.

        An undefined score (NaN) is neither a gain nor a loss.
        """
        progress, validation = self.state.progress, self.config.training.validation
        if math.isnan(score):
            return False
        top = progress.best[0][0] if progress.best else -math.inf
        if score > top + validation.min_improvement:
            progress.validations_without_gain = 0
        else:
            progress.validations_without_gain += 1
        if validation.patience is not None and progress.validations_without_gain >= validation.patience:
            progress.stopped_early = True
        n_kept = max(self.config.checkpoints.keep_best, 1)
        # Among equals the earlier one stays ahead: sorting keeps their order.
        progress.best = sorted([*progress.best, (score, progress.step)], key=lambda item: -item[0])[:n_kept]
        return any(step == progress.step for _, step in progress.best)

    def _checkpoint_is_due(self) -> bool:
        if self._saved_step == self.state.progress.step:
            return False
        every = self.config.checkpoints.every_n_steps
        return self._save_agreed or (every is not None and self.state.progress.step % every == 0)

    def _checkpoint(self) -> None:
        self.write_checkpoint(self.state, 0 if self.metrics is None else self.metrics.sync())
        self._saved_step = self.state.progress.step
        self._saved_at = time.monotonic()


def _mark_last(batches: list[dict[str, torch.Tensor]]) -> Iterator[tuple[dict[str, torch.Tensor], bool]]:
    for number, batch in enumerate(batches, start=1):
        yield batch, number == len(batches)
