"""Scores on held-out windows during training, over all processes."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from brainbrr.config import Config
from brainbrr.scoring import SampleTally
from brainbrr.training import distributed
from brainbrr.training.batches import cut_shares, make_loader
from brainbrr.training.losses import SummedLoss
from brainbrr.training.precision import autocast


@dataclass(frozen=True)
class Scores:
    """What a validation found; an undefined score is NaN and has its reason."""

    loss: float
    auroc: float
    auprc: float
    n_windows: int
    reasons: dict[str, str]

    def better(self, metric: str) -> float:
        """Return the score by which checkpoints compete, such that more is better."""
        value: float = getattr(self, metric)
        return -value if metric == "loss" else value


class Validation:
    """Scores a model on (a part of) a split, the same windows every time."""

    def __init__(self, config: Config, windows: Any, loss: SummedLoss, device: torch.device) -> None:
        validation = config.training.validation
        self.batch_size = validation.batch_size or config.training.batch_size
        self._training = config.training
        self._windows = windows
        self._loss = loss
        self._device = device
        self.order = spread(len(windows), validation.max_windows)

    def run(self, model: torch.nn.Module, advance: Callable[[int], None], stop: Callable[[], bool]) -> Scores | None:
        """Score ``model``, or return None when ``stop`` said so before the end (one process only).

        Args:
            model: left in the mode in which it came.
            advance: told the number of windows done.
            stop: asked after every batch.
        """
        was_training = model.training
        model.eval()
        try:
            return self._run(model, advance, stop)
        finally:
            model.train(was_training)

    @torch.no_grad()
    def _run(self, model: torch.nn.Module, advance: Callable[[int], None], stop: Callable[[], bool]) -> Scores | None:
        tally = SampleTally()
        sums = torch.zeros(2, dtype=torch.float64)
        shares = cut_shares(self.order, self.batch_size, distributed.rank(), distributed.world_size())
        batches = [share.windows for share in shares if not share.filler]
        alone = distributed.world_size() == 1
        for batch in make_loader(
            self._windows, batches, workers=self._training.workers, pin_memory=self._device.type == "cuda"
        ):
            label_BT, valid_BT = batch["label"].to(self._device), batch["valid"].to(self._device)
            with autocast(self._training, self._device):
                logits_BT = model(batch["signal"].to(self._device))
                loss = self._loss(logits_BT, label_BT, valid_BT)
            sums += torch.stack([loss.double(), valid_BT.sum().double()]).cpu()
            tally.add(logits_BT.float().cpu().numpy(), batch["label"].numpy(), batch["valid"].numpy())
            advance(len(label_BT))
            if alone and stop():
                return None
        sums = distributed.add_up(sums.to(self._device)).cpu()
        counts = distributed.add_up(torch.from_numpy(tally.counts).to(self._device)).cpu()
        tally.counts = counts.numpy()
        auroc, auprc = tally.scores()
        reasons = {name: score.reason for name, score in (("auroc", auroc), ("auprc", auprc)) if score.reason}
        n_valid = float(sums[1])
        loss_mean = float(sums[0]) / n_valid if n_valid else math.nan
        return Scores(loss_mean, auroc.value, auprc.value, len(self.order), reasons)


def spread(n: int, most: int | None) -> list[int]:
    """Return at most ``most`` numbers of ``range(n)``, spread evenly.

    >>> spread(10, 4), spread(3, None)
    ([0, 2, 5, 7], [0, 1, 2])
    """
    if most is None or most >= n:
        return list(range(n))
    return [number * n // most for number in range(most)]
