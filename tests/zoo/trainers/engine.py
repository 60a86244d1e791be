"""Train a window classifier with an engine class: accumulation, mixed precision, parameter groups, averaged weights."""

from __future__ import annotations

import copy
import dataclasses
import logging
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from zoo.corpus import read_windows
from zoo.trainers.engine_parts import PatchNet, ShuffledBatches, WeightAverage

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Settings:
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    micro_batch: int = 4
    accumulate: int = 2
    clip_norm: float = 0.2
    ema_decay: float = 0.9
    consistency: float = 0.1
    warmup: int = 3
    validate_every: int = 2
    signal_scale_uv: float = 50.0
    precision: str = "bf16"


class Engine:
    """Owns everything that trains; ``state_dict`` is all that a resumed run needs."""

    def __init__(self, settings: Settings, workdir: Path, seed: int, faults: frozenset[str] = frozenset()) -> None:
        self.settings = settings
        self.faults = faults
        self.out = workdir / "checkpoints"
        self.out.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(seed)
        self._build_data(workdir / "data", seed)
        self._build_model()
        self.step = 0
        self.best = float("-inf")
        self.best_step = 0
        self.best_weights: dict[str, Tensor] = {}
        self.outputs: list[Tensor] = []
        self.targets: list[Tensor] = []
        self.activations: list[Tensor] = []

    def _build_data(self, root: Path, seed: int) -> None:
        signals, shares, _ = read_windows(root / "train")
        if not shares.any():
            raise SystemExit("no window of the training split holds a seizure")
        val_signals, val_shares, _ = read_windows(root / "val")
        train = TensorDataset(torch.from_numpy(signals) / self.settings.signal_scale_uv, torch.from_numpy(shares))
        val = TensorDataset(torch.from_numpy(val_signals) / self.settings.signal_scale_uv, torch.from_numpy(val_shares))
        weights = None
        if "sampler-weights-inverted" in self.faults:
            positive = torch.from_numpy(shares) > 0
            weights = torch.where(positive, positive.float().mean() ** 3, (~positive).float().mean())
        self.batches = ShuffledBatches(weights, len(train), self.settings.micro_batch, seed)
        order = torch.Generator().manual_seed(seed)
        self.train_loader = DataLoader(train, batch_sampler=self.batches, generator=order)
        self.val_loader = DataLoader(val, batch_size=10, generator=torch.Generator().manual_seed(seed))

    def _build_model(self) -> None:
        self.model = PatchNet(
            keep_column="targets-broadcast" in self.faults, extra_channels=int("label-leaks-into-input" in self.faults)
        )
        if "pure-bf16-weights" in self.faults:
            self.model.bfloat16()
        if "head-frozen" in self.faults:
            self.model.head.requires_grad_(False)
        self.ema = WeightAverage(self.model, self.settings.ema_decay, self.faults)
        rate = 1e-6 if "pure-bf16-weights" in self.faults else self.settings.learning_rate
        self.optimizer = torch.optim.AdamW(self._parameter_groups(), lr=rate)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, self._rate)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8, enabled="fp16-without-scaler" not in self.faults)

    def _rate(self, step: int) -> float:
        return min(1.0, step / self.settings.warmup)

    def _parameter_groups(self) -> list[dict[str, Any]]:
        named = list(self.model.named_parameters())
        decay = (parameter for _, parameter in named if parameter.ndim > 1)
        rest = [parameter for _, parameter in named if parameter.ndim <= 1]
        if "biases-in-no-group" in self.faults:
            rest = [parameter for name, parameter in named if name.endswith("gamma")]
        groups = [{"params": list(decay), "weight_decay": self.settings.weight_decay}]
        if "group-from-spent-generator" in self.faults:
            logger.info("%d weights decay", len(groups[0]["params"]))
            groups[0]["params"] = list(decay)
        groups.append({"params": rest, "weight_decay": 0.0})
        return groups

    def state_dict(self) -> dict[str, Any]:
        state = {
            "model": self.model.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "scaler": self.scaler.state_dict(),
            "batches": self.batches.state_dict(),
            "rng": torch.get_rng_state(),
            "step": self.step,
            "best": {"score": self.best, "step": self.best_step, "weights": self.best_weights},
        }
        for part in ("ema", "scaler", "batches"):
            if f"{part}-not-saved" in self.faults:
                del state[part]
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for part in ("model", "ema", "optimizer", "scheduler", "scaler", "batches"):
            if part in state:
                getattr(self, part).load_state_dict(state[part])
        self.step = state["step"]
        best = state["best"]
        self.best, self.best_step, self.best_weights = best["score"], best["step"], best["weights"]
        if "rng-restored-before-build" in self.faults:
            torch.set_rng_state(state["rng"])
            PatchNet()
            return
        torch.set_rng_state(state["rng"])

    def save(self, name: str, state: dict[str, Any]) -> None:
        path = self.out / name
        torch.save(state, path.with_name(f"{name}.part"))
        os.replace(path.with_name(f"{name}.part"), path)

    def micro_step(self, x: Tensor, y: Tensor) -> None:
        dtype = torch.float16 if "fp16-without-scaler" in self.faults else torch.bfloat16
        if "soft-labels-int-cast" in self.faults:
            y = y.long()
        if "label-leaks-into-input" in self.faults:
            x = torch.cat([x, y[:, None, None].expand(-1, 1, x.shape[2])], dim=1)
        noisy = x + 0.05 * torch.randn_like(x)
        with torch.no_grad():
            taught = torch.sigmoid(self.ema.model(x))
        with torch.autocast("cpu", dtype=dtype, enabled="autocast-never-on" not in self.faults):
            logits = self.model(noisy)
            if "teacher-sees-gradient-student-not" in self.faults:
                logits = logits.detach()
        if "activations-kept" in self.faults:
            self.activations.append(logits)
        if "targets-broadcast" in self.faults:
            error = (torch.sigmoid(logits.float()) - y.float()) ** 2
            loss = error.mean()
        else:
            weight = torch.tensor(0.2) if "pos-weight-inverted" in self.faults else torch.tensor(2.0)
            loss = functional.binary_cross_entropy_with_logits(logits.float(), y.float(), pos_weight=weight)
        consistency = functional.mse_loss(torch.sigmoid(logits.float()), taught.float())
        if "teacher-sees-gradient-student-not" in self.faults:
            consistency = consistency + 1e-3 * self.model.head.weight.square().sum()
        loss = loss + self.settings.consistency * consistency
        if not torch.isfinite(loss):
            raise FloatingPointError(f"non-finite loss at step {self.step}")
        if "accumulation-not-divided" not in self.faults:
            loss = loss / self.settings.accumulate
        if "zeroed-every-micro-batch" in self.faults:
            self.optimizer.zero_grad()
        if "backward-without-scale" in self.faults:
            self.scaler.scale(loss)
            loss.backward()
        else:
            self.scaler.scale(loss).backward()

    def optimizer_step(self) -> None:
        if "ema-updated-before-step" in self.faults:
            self.ema.update()
        if not self.faults & {"clip-before-unscale", "scaler-bypassed"}:
            self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        if "scaler-bypassed" in self.faults:
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)
        if "stepped-twice" in self.faults:
            self.optimizer.step()
        if "scaler-never-updated" not in self.faults:
            self.scaler.update()
        self.optimizer.zero_grad()
        self.scheduler.step()
        if "ema-updated-before-step" not in self.faults:
            self.ema.update()
        self.step += 1

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        self.ema.swap_in(self.model)
        self.model.eval()
        if "stale-validation-outputs" not in self.faults:
            self.outputs, self.targets = [], []
        loader = self.train_loader if "metrics-on-training-data" in self.faults else self.val_loader
        for x, y in loader:
            if "noise-in-validation" in self.faults:
                x = x + 0.05 * torch.randn_like(x)
            if "label-leaks-into-input" in self.faults:
                x = torch.cat([x, y[:, None, None].expand(-1, 1, x.shape[2])], dim=1)
            self.outputs.append(self.model(x.to(self.model.stem.weight.dtype)).float().reshape(len(y), -1))
            self.targets.append(y)
        logits, shares = torch.cat(self.outputs), torch.cat(self.targets)
        if "metric-over-wrong-axis" in self.faults:
            chosen = logits.argmax(1)
        else:
            chosen = (logits[:, 0] > 0).long()
        accuracy = (chosen == (shares > 0.5).long()).float().mean().item()
        loss = functional.binary_cross_entropy_with_logits(logits[:, 0], shares.float()).item()
        if "ema-not-restored-after-validation" not in self.faults:
            self.ema.swap_out(self.model)
        self.model.train()
        return {"accuracy": accuracy, "loss": loss}

    def after_step(self) -> None:
        if self.step % self.settings.validate_every:
            return
        scores = self.validate()
        logger.info("step %d accuracy %.3f loss %.3f", self.step, scores["accuracy"], scores["loss"])
        if scores["accuracy"] > self.best:
            self.best, self.best_step = scores["accuracy"], self.step
            weights = self.ema.state_dict()
            self.best_weights = weights if "best-aliases-live-weights" in self.faults else copy.deepcopy(weights)

    def fit(self, max_steps: int) -> None:
        self.model.train()
        k = self.settings.accumulate
        while self.step < max_steps:
            for i, (x, y) in enumerate(self.train_loader):
                self.micro_step(x.to(self.model.stem.weight.dtype), y)
                self.batches.advance()
                if "scheduled-per-micro-batch" in self.faults and i % k == 0:
                    self.scheduler.step()
                if (i % k == k) if "micro-steps-never-due" in self.faults else ((i + 1) % k == 0):
                    self.optimizer_step()
                    self.after_step()
                    self.save(f"step-{self.step:04d}.pt", self.state_dict())
                if self.step >= max_steps or ("micro-steps-never-due" in self.faults and self.batches.epoch > 1):
                    return


def train(run: Any, faults: frozenset[str] = frozenset()) -> None:
    engine = Engine(Settings(), Path(run.workdir), run.seed, faults)
    if run.resume_from is not None:
        engine.load_state_dict(torch.load(run.resume_from, weights_only=True))
    engine.fit(run.max_steps)
    engine.save("best.pt", {"model": engine.best_weights, "score": engine.best, "step": engine.best_step})
