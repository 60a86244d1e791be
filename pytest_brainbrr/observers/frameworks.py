"""What Lightning, Fabric and Transformers were told: what they choose by, leave out, and measure.

Limits: these frameworks; a callback that chooses by a number under other attributes than `monitor` and `mode`.
"""

from collections.abc import Iterator
from typing import Any

from pytest_brainbrr.observers.core import Watch

NOTHING: dict[str, Any] = {
    "choices": [], "limits": {}, "schedules": [], "steps": None, "epochs": None, "precision": None,
}  # fmt: skip
LIMITS = ("overfit_batches", "limit_train_batches", "limit_val_batches")


class Frameworks:
    """Writes `declared` and `evaluated` events."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self._measured = 0

    def install(self) -> None:
        """Wait for the frameworks to be imported."""
        watch = self.watch
        for package in ("lightning.pytorch", "pytorch_lightning"):
            watch.when_imported(
                f"{package}.trainer.trainer",
                lambda module: watch.replace(module.Trainer, "_run_stage", self._telling("lightning", _lightning)),
            )
        for package in ("lightning.fabric", "lightning_fabric"):
            watch.when_imported(
                f"{package}.fabric",
                lambda module: watch.replace(module.Fabric, "setup", self._telling("fabric", _fabric)),
            )
        watch.when_imported(
            "transformers.trainer",
            lambda module: watch.replace(module.Trainer, "train", self._telling("transformers", _transformers)),
        )
        watch.when_imported(
            "transformers.trainer", lambda module: watch.replace(module.Trainer, "evaluate", self._evaluating)
        )
        watch.when_imported(
            "transformers.trainer_utils",
            lambda module: watch.replace(module.EvalPrediction, "__init__", self._counting),
        )

    def _telling(self, framework: str, read: Any) -> Any:
        watch = self.watch

        def make(original: Any) -> Any:
            def wrapper(trainer: Any, *args: Any, **kwargs: Any) -> Any:
                if watch.active and not watch.busy:
                    with watch.observing("frameworks"):
                        watch.emit("declared", framework=framework, **{**NOTHING, **read(trainer)})
                return original(trainer, *args, **kwargs)

            return wrapper

        return make

    def _evaluating(self, original: Any) -> Any:
        observer = self

        def evaluate(trainer: Any, *args: Any, **kwargs: Any) -> Any:
            before = observer._measured
            result = original(trainer, *args, **kwargs)
            watch = observer.watch
            if watch.active and not watch.busy:
                with watch.observing("frameworks"):
                    given = trainer.compute_metrics is not None and not trainer.args.prediction_loss_only
                    watch.emit("evaluated", metrics_given=given, metrics_called=observer._measured > before)
            return result

        return evaluate

    def _counting(self, original: Any) -> Any:
        observer = self

        def __init__(prediction: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807 (what it replaces)
            observer._measured += 1
            original(prediction, *args, **kwargs)

        return __init__


def _lightning(trainer: Any) -> dict[str, Any]:
    choices = []
    for thing in [*trainer.callbacks, *(config.scheduler for config in trainer.lr_scheduler_configs)]:
        name = getattr(thing, "monitor", None)
        for config in trainer.lr_scheduler_configs:
            name = config.monitor if config.scheduler is thing else name
        if isinstance(name, str) and getattr(thing, "mode", None) in {"min", "max"}:
            choices.append({"what": type(thing).__name__, "monitor": name, "mode": thing.mode})
    return {
        "choices": choices,
        "limits": {name: getattr(trainer, name, None) for name in LIMITS},
        "schedules": [
            {
                "class": type(config.scheduler).__name__,
                "interval": config.interval,
                "planned": _planned(config.scheduler),
            }
            for config in trainer.lr_scheduler_configs
        ],
        # Asking for the number of steps would set the loaders up: it is taken only where that has happened.
        "steps": trainer.estimated_stepping_batches if trainer.max_epochs == -1 or _has_loaders(trainer) else None,
        "epochs": trainer.max_epochs,
    }


def _planned(scheduler: Any) -> int | None:
    found = [getattr(scheduler, name, None) for name in ("total_steps", "T_max", "total_iters")]
    return next((value for value in found if isinstance(value, int)), None)


def _has_loaders(trainer: Any) -> bool:
    return getattr(trainer.fit_loop, "_combined_loader", None) is not None


def _transformers(trainer: Any) -> dict[str, Any]:
    return {"choices": list(_chosen(trainer))}


def _fabric(fabric: Any) -> dict[str, Any]:
    return {"precision": str(getattr(fabric._precision, "precision", None))}


def _chosen(trainer: Any) -> Iterator[dict[str, Any]]:
    arguments = trainer.args
    name, greater = arguments.metric_for_best_model, arguments.greater_is_better
    stopping = [kind for kind in map(type, trainer.callback_handler.callbacks) if "EarlyStopping" in kind.__name__]
    if isinstance(name, str) and greater is not None and (arguments.load_best_model_at_end or stopping):
        what = "load_best_model_at_end" if arguments.load_best_model_at_end else stopping[0].__name__
        yield {"what": what, "monitor": name, "mode": "max" if greater else "min"}
