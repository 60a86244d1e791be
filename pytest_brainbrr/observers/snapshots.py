"""Everything a resumed run would need, as it stands at a moment: the yardstick for checkpoints.

Limits: state that lives in plain attributes of the trainer (best metric, patience counters) is not in it.
"""

from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from pytest_brainbrr.observers.core import Watch
from pytest_brainbrr.observers.models import Models
from pytest_brainbrr.observers.optimizers import scalars
from pytest_brainbrr.observers.randomness import states
from pytest_brainbrr.observers.tensors import digest


class Snapshots:
    """Writes `snapshot` events."""

    def __init__(self, watch: Watch, models: Models) -> None:
        self.watch, self.models = watch, models

    def install(self) -> None:
        """Take one at the end; others ask for the rest."""
        self.watch.on_end.append(lambda: self.record("end"))

    def record(self, when: str) -> None:
        """Record what stands now."""
        watch = self.watch
        copies = watch.shared.get("copies_now")
        positions = watch.shared.get("loader_positions")
        try:
            if when == "resume":
                self._look_again()
            watch.emit(
                "snapshot",
                when=when,
                models=self.models.snapshot(),
                optimizers=[self._optimizer(thing) for thing in self._optimizers()],
                schedulers=[_scheduler(thing) for thing in self._alive("s")],
                scalers=[_scaler(thing) for thing in self._alive("g")],
                copies=copies() if copies is not None else [],
                rng=states(),
                loaders=positions() if positions is not None else [],
                steps=watch.borders,
            )
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            watch.fail("snapshots", error)

    def _look_again(self) -> None:
        """Learn what the stopped run knew when it saved: the root of the model about to be called, lazy layers."""
        about = self.watch.shared.get("about_to_call")
        module = about() if about is not None else None
        if module is not None:
            self.models.know(module, "called")
        for identity, _, root in self.models.roots():
            self.models.refresh(identity, root)

    def _alive(self, prefix: str) -> list[Any]:
        return [thing for _, thing in sorted(self.watch.registry.alive(prefix), key=lambda pair: int(pair[0][1:]))]

    def _optimizers(self) -> list[Optimizer]:
        """Return the optimizers, wrappers left out: Lightning's and Accelerate's share the state of what they wrap."""
        found: dict[int, Optimizer] = {}
        for thing in self._alive("o"):
            if isinstance(thing, Optimizer):
                found.setdefault(id(thing.state), thing)
        return list(found.values())

    def _optimizer(self, optimizer: Optimizer) -> dict[str, Any]:
        names = {}
        for place, group in enumerate(optimizer.param_groups):
            for number, tensor in enumerate(group["params"]):
                names[id(tensor)] = self.models.name_of(tensor) or f"<foreign>/{place}.{number}"
        state: dict[str, Any] = {}
        for tensor, slots in optimizer.state.items():
            name = names.get(id(tensor), "<state>") if isinstance(tensor, Tensor) else str(tensor)[:80]
            if isinstance(slots, dict):
                state[name] = {str(slot): _slot(value) for slot, value in slots.items()}
        return {
            "class": type(optimizer).__name__,
            "lr": [group.get("lr") for group in scalars_of(optimizer)],
            "state": state,
        }


def scalars_of(optimizer: Optimizer) -> list[dict[str, Any]]:
    """Return the plain options of every group."""
    return [scalars(group) for group in optimizer.param_groups]


def _slot(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.item() if value.numel() == 1 and not value.is_complex() else digest(value)
    return value if isinstance(value, bool | int | float | str) or value is None else type(value).__name__


def _scheduler(scheduler: Any) -> dict[str, Any]:
    return {"class": type(scheduler).__name__, "state": scalars(vars(scheduler))}


def _scaler(scaler: Any) -> dict[str, Any]:
    enabled = bool(scaler.is_enabled())
    scale = getattr(scaler, "_scale", None)
    return {
        "enabled": enabled,
        "scale": float(scale.item()) if scale is not None else getattr(scaler, "_init_scale", None),
        "growth_tracker": scaler._get_growth_tracker() if enabled else None,
    }
