"""`brainbrr train` itself, with faults planted by replacing attributes of its modules before the command runs.

The installed code stays as it is: every replacement is undone when the run ends. Runs with a fault keep a cache of
their own, so that what a wrong reader made is never found by a sound one.
"""

import contextlib
import os
from dataclasses import replace
from unittest import mock

from pytest_brainbrr.encoders import encoder_targets

from zoo.trainers.ours import checkpoints, data, losses, models, optimizers, surroundings, validation  # noqa: F401
from zoo.trainers.ours.planting import PLANTED

NARROW = {
    "tcn": (
        "model.encoder.channels=[16, 32]",
        "model.encoder.blocks=4",
        "model.mamba.layers=1",
        "model.mamba.headdim=8",
    ),
    "unet": ("model.encoder.channels=[8, 8, 16, 32]", "model.mamba.layers=1", "model.mamba.headdim=8"),
}
SETTINGS = {
    "ours-average-never-updated": ("training.ema_decay=0.9",),
    "ours-average-not-loaded": ("training.ema_decay=0.9",),
    "ours-order-repeats": ("sampling.windows_per_epoch=4",),
    "ours-order-never-shuffled": ("sampling.windows_per_epoch=4",),
    "ours-schedule-not-loaded": ("training.schedule.warmup_share=0.5",),
}
"""Fault -> further settings without which it has nothing to spoil."""
RECORDINGS = {
    "ours-sampler-inverted": "6",
    "ours-scores-out-of-range": "6",
    "ours-positive-weight-inverted": "6",
    "ours-best-mode-inverted": "6",
    "ours-valid-mask-ignored": "9",
}
"""Faults that show only on recordings with seizures, or shorter than a window: these runs read more than three of each
split."""


def tcn(run, faults=frozenset()):
    train("tcn", run, faults)


def unet(run, faults=frozenset()):
    train("unet", run, faults)


def tcn_with_seizures(run):
    """Six recordings of each split, which hold seizures, not three."""
    with mock.patch.dict(os.environ, BGB_LIMIT_FILES="6"):
        train("tcn", run, frozenset())


def unet_accumulating(run):
    """Batches of windows with seizures, two to a step, an average of the weights, and validation at every step."""
    settings = ("training.accumulate=2", "training.ema_decay=0.9", "training.validation.every_steps=1")
    with mock.patch.dict(os.environ, BGB_LIMIT_FILES="8"):
        train("unet", run, frozenset(), settings)


def tcn_of_short_epochs(run):
    train("tcn", run, frozenset(), ("sampling.windows_per_epoch=4",))


def train(encoder, run, faults, more=()):
    """Run the command as the plugin's own target does, with a narrower model and with ``faults``."""
    from brainbrr.recordings.demo import embedded_corpus

    trainer = next(target.train for target in encoder_targets() if target.name == encoder)
    settings = [*NARROW[encoder], *more, *(one for fault in sorted(faults) for one in SETTINGS.get(fault, ()))]
    with mock.patch.dict(os.environ), contextlib.ExitStack() as stack:
        if faults:
            os.environ["BGB_DATA_DIR"] = str(embedded_corpus())
            os.environ["BGB_CACHE_DIR"] = str(run.workdir / "cache")
        if faults & RECORDINGS.keys() and run.data == "normal":
            os.environ["BGB_LIMIT_FILES"] = max(RECORDINGS[fault] for fault in faults & RECORDINGS.keys())
        for fault in sorted(faults):
            for owner, name, value in PLANTED[fault]():
                stack.enter_context(mock.patch.object(owner, name, value))
        replace(trainer, overrides=(*trainer.overrides, *settings))(run)
