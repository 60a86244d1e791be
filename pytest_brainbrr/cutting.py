"""Make loaders shorter, so that what comes after a pass is seen: the `cut` run. Invasive, only there.

A loader that trains delivers the batches of about two steps, any other one (of a validation) a few. Their ``len`` says
so too: what trainers derive from it (schedules, means, the place to resume at) fits.
"""

from collections.abc import Callable, Mapping
from typing import Any

from torch.utils.data import DataLoader

from pytest_brainbrr.observers.core import Watch

OTHERS = 8
"""Batches of a loader that does not train."""


class Cutting:
    """Ends passes, and answers for the lengths of loaders."""

    def __init__(self, watch: Watch, batches: Mapping[str, int]) -> None:
        """Take the ids of loaders that train, and how many batches each delivers (`passes.short_passes`)."""
        self.watch, self._batches = watch, batches

    def install(self) -> None:
        """Answer loaders when they ask whether a pass is over, and trainers when they ask how long it is."""
        self.watch.shared["end_pass"] = self.over
        self.watch.replace(DataLoader, "__len__", self._wrap_len)

    def over(self, loader: str, delivered: int) -> bool:
        """Return whether a pass that has delivered so many batches ends before the next one."""
        return delivered >= self._batches.get(loader, OTHERS)

    def _wrap_len(self, original: Callable[[Any], int]) -> Any:
        def __len__(loader: Any) -> int:  # noqa: N807
            length = original(loader)
            if self.watch.busy or not self.watch.active:
                return length
            return min(length, self._batches.get(self.watch.registry.name(loader, "l"), OTHERS))

        return __len__
