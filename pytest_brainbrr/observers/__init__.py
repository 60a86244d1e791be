"""Observers: one file per idea. They watch a trainer from outside and write events; they change nothing.

All share a :class:`~pytest_brainbrr.observers.core.Watch`. :func:`install` puts them in place and returns it; closing
it takes everything away again. The rules: no hook returns a value, nothing is kept alive (weak references and ids
only), no generator is touched, what fails inside an observer becomes an ``observer_error`` event, never an exception in
the watched code.
"""

from pathlib import Path

from pytest_brainbrr.observers.checkpoints import Checkpoints
from pytest_brainbrr.observers.choices import Choices
from pytest_brainbrr.observers.configuration import Configuration
from pytest_brainbrr.observers.copies import Copies
from pytest_brainbrr.observers.core import Watch
from pytest_brainbrr.observers.environment import Environment
from pytest_brainbrr.observers.frameworks import Frameworks
from pytest_brainbrr.observers.gradients import Gradients
from pytest_brainbrr.observers.initialization import Initialization
from pytest_brainbrr.observers.loaders import Loaders
from pytest_brainbrr.observers.losses import Losses
from pytest_brainbrr.observers.memory import Memory
from pytest_brainbrr.observers.metrics import Metrics
from pytest_brainbrr.observers.models import Models
from pytest_brainbrr.observers.modules import Modules
from pytest_brainbrr.observers.optimizers import Optimizers
from pytest_brainbrr.observers.precision import Precision
from pytest_brainbrr.observers.processes import Processes
from pytest_brainbrr.observers.randomness import Randomness
from pytest_brainbrr.observers.schedulers import Schedulers
from pytest_brainbrr.observers.snapshots import Snapshots

__all__ = ["Watch", "install"]


def install(directory: Path, workdir: Path, *, role: str = "main") -> Watch:
    """Put every observer in place and return the watch; closing it takes them away.

    Args:
        directory: Folder of the trace.
        workdir: Folder of the run.
        role: ``main``, ``worker`` or ``rank``.
    """
    watch = Watch(directory, workdir, role=role)
    models = Models(watch)
    modules = Modules(watch, models)
    optimizers = Optimizers(watch, models)
    snapshots = Snapshots(watch, models)
    loaders = Loaders(watch)
    watch.shared["loader_positions"] = loaders.positions
    watch.shared["models"] = models
    watch.shared["snapshots"] = snapshots
    for observer in (
        Randomness(watch),
        models,
        modules,
        Gradients(watch, models, modules),
        optimizers,
        Initialization(watch),
        Configuration(watch),
        Precision(watch, optimizers),
        Schedulers(watch),
        Losses(watch, modules),
        loaders,
        Copies(watch, models),
        Checkpoints(watch, models, snapshots),
        snapshots,
        Memory(watch, models),
        Metrics(watch),
        Choices(watch),
        Frameworks(watch),
        Processes(watch, models),
        Environment(watch),
    ):
        try:
            observer.install()
        except Exception as error:  # noqa: BLE001 (an observer that cannot be placed is recorded, the others go on)
            watch.fail(type(observer).__name__.lower(), error)
    return watch
