"""Numbers that the trainer hands to a known logger.

Limits: TensorBoard, wandb, Lightning, Accelerate and Transformers; files of one's own are read by the parent later.
"""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from pytest_brainbrr.observers.core import Watch, caller


class Metrics:
    """Writes `metric` events."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch

    def install(self) -> None:
        """Wait for the loggers to be imported."""
        watch = self.watch
        watch.when_imported("torch.utils.tensorboard.writer", self._tensorboard)
        # wandb.log becomes the method of the run that wandb.init makes.
        watch.when_imported(
            "wandb.sdk.wandb_run", lambda module: watch.replace(module.Run, "log", self._wrap("wandb", 0, 1))
        )
        for package in ("lightning.pytorch", "pytorch_lightning"):
            watch.when_imported(f"{package}.core.module", self._lightning)
            for logger, kind in (
                ("csv_logs", "CSVLogger"),
                ("tensorboard", "TensorBoardLogger"),
                ("wandb", "WandbLogger"),
                ("mlflow", "MLFlowLogger"),
            ):
                watch.when_imported(f"{package}.loggers.{logger}", self._logger(kind))
        watch.when_imported(
            "transformers.trainer",
            lambda module: watch.replace(module.Trainer, "log", self._wrap("Trainer.log", 0, None)),
        )
        watch.when_imported(
            "accelerate.accelerator",
            lambda module: watch.replace(module.Accelerator, "log", self._wrap("Accelerator", 0, 1)),
        )

    def _tensorboard(self, module: Any) -> None:
        self.watch.replace(module.SummaryWriter, "add_scalar", self._wrap("SummaryWriter", (0, 1), 2))
        self.watch.replace(module.SummaryWriter, "add_scalars", self._wrap("SummaryWriter", 1, 2))

    def _lightning(self, module: Any) -> None:
        self.watch.replace(module.LightningModule, "log", self._wrap("LightningModule.log", (0, 1), None))

    def _logger(self, kind: str) -> Callable[[Any], None]:
        def found(module: Any) -> None:
            if hasattr(module, kind):
                self.watch.replace(getattr(module, kind), "log_metrics", self._wrap(kind, 0, 1))

        return found

    def _wrap(self, logger: str, values: int | tuple[int, int], at: int | None) -> Callable[[Any], Any]:
        watch = self.watch

        def make(original: Any) -> Any:
            def wrapper(*args: Any, **kwargs: Any) -> Any:
                if watch.active and not watch.busy:
                    with watch.observing("metrics"):
                        given = [*args[1:], *kwargs.values()]
                        if isinstance(values, tuple):
                            numbers = {str(given[values[0]]): given[values[1]]} if len(given) > values[1] else {}
                        else:
                            numbers = (
                                given[values] if len(given) > values and isinstance(given[values], Mapping) else {}
                            )
                        step = kwargs.get(
                            "global_step", kwargs.get("step", given[at] if at is not None and len(given) > at else None)
                        )
                        watch.emit(
                            "metric",
                            logger=logger,
                            values={
                                str(name): number
                                for name, value in numbers.items()
                                if (number := _number(value)) is not None
                            },
                            at=step if isinstance(step, int | float) else None,
                            by=caller(),
                        )
                return original(*args, **kwargs)

            return wrapper

        return make


def _number(value: Any) -> float | None:
    if isinstance(value, Tensor) and value.numel() == 1:
        return float(value.detach().item())
    return float(value) if isinstance(value, bool | int | float) else None
