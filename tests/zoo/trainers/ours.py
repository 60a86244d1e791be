"""`brainbrr train` itself, with faults planted by replacing attributes of its modules before the command runs.

The installed code stays as it is: every replacement is undone when the run ends. Runs with a fault keep a cache of
their own, so that what a wrong reader made is never found by a sound one.
"""

import contextlib
import copy
import os
import sys
from dataclasses import replace
from unittest import mock

from pytest_brainbrr.encoders import encoder_targets

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


PLANTED = {}
"""Fault -> a function that yields (owner, attribute, replacement)."""


def plants(function):
    PLANTED["ours-" + function.__name__.replace("_", "-")] = function
    return function


# ------------------------------------------------------------------ reading


@plants
def channels_in_file_order():
    import numpy as np
    from brainbrr.montage import Derivation

    original = Derivation.apply

    def apply(self, signal_CN):
        return signal_CN[np.argsort(self.sources)] if len(self.sources) == 19 else original(self, signal_CN)

    yield Derivation, "apply", apply


@plants
def rate_ignored():
    from fractions import Fraction

    from brainbrr.windows import loading, store
    from brainbrr.windows.preprocess import preprocess

    for module in (loading, sys.modules[preprocess.__module__], store):
        yield module, "resampling_ratio", lambda rate, settings: Fraction(1)


@plants
def statistics_over_both_splits():
    from brainbrr.windows.preprocess import preprocess

    module, seen = sys.modules[preprocess.__module__], []
    original = module._standardize

    def standardize(signal_CN, settings):
        # The first recording's own numbers stand for those of a pass over all files.
        seen.append(original(signal_CN, settings).std() / signal_CN.std())
        return signal_CN * seen[0]

    yield module, "_standardize", standardize


# ------------------------------------------------------------------ labels


@plants
def annotations_misread():
    from brainbrr.recordings import tusz

    original = tusz.read_tusz_labels
    yield tusz, "read_tusz_labels", lambda path: replace(original(path), seizures=())


def _changed_items(change):
    from brainbrr.windows.dataset import Windows

    original = Windows.__getitem__

    def getitem(self, i):
        item = original(self, i)
        change(item)
        return item

    yield Windows, "__getitem__", getitem


@plants
def labels_shifted():
    def change(item):
        item["label"] = item["label"].roll(2560)

    yield from _changed_items(change)


@plants
def labels_inverted():
    def change(item):
        item["label"] = 1 - item["label"]

    yield from _changed_items(change)


@plants
def mask_rounded_to_windows():
    def change(item):
        item["label"][:] = item["label"].max()

    yield from _changed_items(change)


@plants
def mask_at_another_rate():
    from brainbrr.windows import dataset

    original = dataset.seizure_samples
    yield dataset, "seizure_samples", lambda seizures, rate_hz, n: original(seizures, 250.0, n)


@plants
def valid_mask_inverted():
    def change(item):
        item["valid"] = ~item["valid"]

    yield from _changed_items(change)


# ------------------------------------------------------------------ split and sampling


@plants
def split_by_recording():
    from brainbrr.windows import loading

    original = loading.split_recordings

    def split_recordings(located, data, where=None):
        splits = original(located, data, where=where)
        return {**splits, "train": splits["train"][::2], "dev": splits["train"][1::2]}

    yield loading, "split_recordings", split_recordings
    yield loading, "check_disjoint", lambda *args, **options: None


@plants
def validates_on_training_split():
    from brainbrr.windows import loading

    original = loading.split_recordings

    def split_recordings(located, data, where=None):
        splits = original(located, data, where=where)
        return {**splits, "dev": splits["train"]}

    yield loading, "split_recordings", split_recordings
    yield loading, "check_disjoint", lambda *args, **options: None


@plants
def sampler_inverted():
    from brainbrr.windows import sampler

    original = sampler._divide

    def divide(total, shares):
        return original(total, {kind: 1 / share if share else 0.0 for kind, share in shares.items()})

    yield sampler, "_divide", divide


@plants
def order_repeats():
    from brainbrr.windows.sampler import WindowSampler

    original = WindowSampler.order
    yield WindowSampler, "order", lambda self, epoch: original(self, 0)


@plants
def order_never_shuffled():
    import numpy as np
    from brainbrr.windows.sampler import WindowSampler

    original = WindowSampler.order
    yield WindowSampler, "order", lambda self, epoch: np.sort(original(self, 0))


@plants
def no_seizure_verdict_swallowed():
    from brainbrr.windows import sampler

    yield sampler, "_verdict", lambda *args, **options: None


@plants
def smoke_mode_always_on():
    from brainbrr import environment

    yield environment, "smoke_test", lambda: True


# ------------------------------------------------------------------ model


@plants
def head_detached():
    from brainbrr.models.head import Head

    original = Head.forward
    yield Head, "forward", lambda self, features: original(self, features.detach())


def _changed_model(change):
    from brainbrr.training import session

    original = session.build_detector

    def build_detector(*args, **options):
        model = original(*args, **options)
        change(model)
        return model

    yield session, "build_detector", build_detector


@plants
def encoder_frozen():
    yield from _changed_model(lambda model: model.encoder.requires_grad_(False))


@plants
def statistics_frozen():
    def change(model):
        for module in model.modules():
            if hasattr(module, "momentum"):
                module.momentum = 0.0

    yield from _changed_model(change)


@plants
def constant_start():
    def change(model):
        model.encoder.mix.weight.data.fill_(0.1)

    yield from _changed_model(change)


@plants
def branch_cut():
    from brainbrr.models.tcn import Block

    yield Block, "forward", lambda self, x: self.straight(x)


@plants
def skip_cut():
    from brainbrr.models.unet import Up

    original = Up.forward
    yield Up, "forward", lambda self, x, skip: original(self, x, skip.detach() * 0)


@plants
def bottleneck_branch_unused():
    from brainbrr.models.unet import Bottleneck

    yield Bottleneck, "forward", lambda self, x: x + self.dropout(self.branches[0](x))


@plants
def batch_mixed():
    from brainbrr.models.bimamba import BiMamba2

    original = BiMamba2.forward
    yield BiMamba2, "forward", lambda self, x: original(self, x - x.mean(0, keepdim=True))


@plants
def dropout_always_on():
    from brainbrr.models.head import Head
    from torch.nn import functional

    original = Head.forward
    yield Head, "forward", lambda self, x: original(self, functional.dropout(x, 0.3))


@plants
def never_in_training_mode():
    from brainbrr.models.detector import Detector
    from torch import nn

    yield Detector, "train", lambda self, mode=True: nn.Module.train(self, False)


@plants
def reverse_not_flipped_back():
    import torch
    from brainbrr.models.bimamba import BiMamba2Layer

    def forward(self, x):
        mixed = self.projection(torch.cat([self.forward_mamba(x), self.backward_mamba(x.flip(1))], dim=-1))
        return self.norm(x + self.dropout(mixed))

    yield BiMamba2Layer, "forward", forward


# ------------------------------------------------------------------ loss


def _changed_loss(change):
    from brainbrr.training import session

    original = session.build_loss

    def build_loss(*args):
        loss = original(*args)
        return lambda logits, label, valid: change(loss, logits, label, valid)

    yield session, "build_loss", build_loss


@plants
def loss_sign_flipped():
    yield from _changed_loss(lambda loss, *args: -loss(*args))


@plants
def loss_of_zeros():
    yield from _changed_loss(lambda loss, logits, label, valid: loss(logits, label * 0 + 0.5, valid))


@plants
def valid_mask_ignored():
    yield from _changed_loss(lambda loss, logits, label, valid: loss(logits, label, valid | True))


@plants
def losses_kept():
    kept = []

    def change(loss, *args):
        kept.append(loss(*args))
        return kept[-1]

    yield from _changed_loss(change)


@plants
def loss_not_divided():
    from brainbrr.training.loop import Loop

    original = Loop._agree

    def agree(self, group):
        original(self, group)
        return 1.0

    yield Loop, "_agree", agree


@plants
def positive_weight_inverted():
    from brainbrr.training import session

    original = session.positive_weight
    yield session, "positive_weight", lambda *args: 1 / max(original(*args), 10.0)


# ------------------------------------------------------------------ optimizer and schedule


def _changed_optimizer(change):
    from brainbrr.training import session

    original = session.build_optimizer

    def build_optimizer(config, groups):
        optimizer = original(config, groups)
        change(optimizer)
        return optimizer

    yield session, "build_optimizer", build_optimizer


@plants
def gradients_never_zeroed():
    def change(optimizer):
        optimizer.zero_grad = lambda set_to_none=True: None

    yield from _changed_optimizer(change)


@plants
def decay_of_ten():
    def change(optimizer):
        for group in optimizer.param_groups:
            group["weight_decay"] = 10.0

    yield from _changed_optimizer(change)


@plants
def decay_on_state_matrices():
    from brainbrr.training import session

    original = session.parameter_groups

    def parameter_groups(model, decay):
        decaying, exempt = original(model, decay)
        moved = [one for one in exempt["params"] if getattr(one, "_no_weight_decay", False)]
        kept = [one for one in exempt["params"] if not getattr(one, "_no_weight_decay", False)]
        return [{**decaying, "params": decaying["params"] + moved}, {**exempt, "params": kept}]

    yield session, "parameter_groups", parameter_groups


@plants
def optimizer_of_head_only():
    from brainbrr.training import session

    original = session.parameter_groups
    yield session, "parameter_groups", lambda model, decay: original(model.head, decay)


@plants
def optimizer_of_a_copy():
    from brainbrr.training import session

    original = session.parameter_groups
    yield session, "parameter_groups", lambda model, decay: original(copy.deepcopy(model), decay)


@plants
def clipped_after_step():
    import torch
    from brainbrr.training.loop import Loop

    original = Loop._report_step

    def report(self, *args):
        torch.nn.utils.clip_grad_norm_(self._parameters, self.config.training.clip_norm or 1.0)
        original(self, *args)

    yield Loop, "_clip", lambda self, limit: torch.nn.utils.get_total_norm([p.grad for p in self._parameters])
    yield Loop, "_report_step", report


@plants
def clipped_to_nothing():
    from brainbrr.training.loop import Loop

    original = Loop._clip
    yield Loop, "_clip", lambda self, limit: original(self, 1e-9)


def _changed_schedule(change):
    from brainbrr.training import session

    original = session.build_schedule

    def build_schedule(*args):
        schedule = original(*args)
        change(schedule)
        return schedule

    yield session, "build_schedule", build_schedule


@plants
def schedule_never_stepped():
    from brainbrr.training.state import TrainState

    original = TrainState.state_dict

    def change(schedule):
        schedule.step = lambda: None

    def state_dict(self):
        state = original(self)
        state["schedule"].pop("step", None)
        return state

    yield from _changed_schedule(change)
    yield TrainState, "state_dict", state_dict


@plants
def schedule_counts_epochs():
    from brainbrr.training import session

    original = session.build_schedule
    yield session, "build_schedule", lambda config, optimizer, planned: original(config, optimizer, 2)


@plants
def average_never_updated():
    from torch.optim.swa_utils import AveragedModel

    yield AveragedModel, "update_parameters", lambda self, model: None


# ------------------------------------------------------------------ validation


@plants
def evaluated_in_training_mode():
    from brainbrr.training.validation import Validation

    yield Validation, "run", lambda self, model, advance, stop: self._run(model, advance, stop)


@plants
def validation_builds_graphs():
    from brainbrr.training.validation import Validation

    yield Validation, "_run", Validation._run.__wrapped__


@plants
def validation_reseeds():
    import torch
    from brainbrr.training.validation import Validation

    original = Validation.run

    def run(self, *args):
        torch.manual_seed(0)
        return original(self, *args)

    yield Validation, "run", run


@plants
def scores_out_of_range():
    from brainbrr.training import validation

    original = validation.SampleTally.scores

    def scores(self):
        # By the number of windows instead of that of their samples.
        return tuple(replace(score, value=score.value * 15_360) for score in original(self))

    yield validation.SampleTally, "scores", scores


@plants
def best_mode_inverted():
    from brainbrr.training.validation import Scores

    yield Scores, "better", lambda self, metric: -getattr(self, metric)


# ------------------------------------------------------------------ surroundings


@plants
def limit_read_at_import():
    from brainbrr import environment

    # What the variable was before the run set it.
    yield environment, "limit_files", lambda: None


@plants
def smoke_mark_missing():
    from brainbrr.training import output, session

    original, record = session.header, session.RunRecord
    yield session, "header", lambda *args, **options: original(*args, **{**options, "smoke": False})
    yield session, "RunRecord", lambda *args, **options: record(*args, **{**options, "smoke": False})
    yield session, "MetricsLog", lambda path, *, smoke, start: output.MetricsLog(path, smoke=False, start=start)
    yield session, "SMOKE_BANNER", ""


# ------------------------------------------------------------------ checkpoints and resume


@plants
def checkpoint_in_place():
    import torch
    from brainbrr.training import session

    def write_checkpoint(path, content):
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(content, path)

    yield session, "write_checkpoint", write_checkpoint


def _changed_state(change):
    from brainbrr.training.state import TrainState

    original = TrainState.state_dict

    def state_dict(self):
        state = original(self)
        change(state)
        return state

    yield TrainState, "state_dict", state_dict


@plants
def moments_not_saved():
    yield from _changed_state(lambda state: state["optimizer"].update(state={}))


@plants
def buffers_not_saved():
    from brainbrr.models.detector import Detector
    from torch import nn

    original = nn.Module.load_state_dict

    def change(state):
        kept = ("running_mean", "running_var", "num_batches_tracked")
        state["model"] = {name: value for name, value in state["model"].items() if not name.endswith(kept)}

    yield from _changed_state(change)
    yield Detector, "load_state_dict", lambda self, state: original(self, state, strict=False)


@plants
def weights_not_loaded():
    from brainbrr.models.detector import Detector
    from torch import nn

    original = nn.Module.load_state_dict

    def load(self, state):
        return original(self, {f"module.{name}": value for name, value in state.items()}, strict=False)

    yield Detector, "load_state_dict", load


@plants
def schedule_not_loaded():
    from torch.optim.lr_scheduler import LambdaLR

    yield LambdaLR, "load_state_dict", lambda self, state: None


@plants
def moments_not_loaded():
    from brainbrr.training.state import TrainState

    def load(self, state, *, keep_settings):
        self.schedule.load_state_dict(state["schedule"])

    yield TrainState, "_load_optimizer", load


@plants
def generators_not_restored():
    from brainbrr.training import state

    yield state, "load_random_state", lambda saved: None


@plants
def epoch_restarted():
    from brainbrr.windows.sampler import WindowSampler

    yield WindowSampler, "load_state_dict", lambda self, state: None


@plants
def progress_not_loaded():
    from brainbrr.training.state import Progress

    yield Progress, "load_state_dict", lambda self, state: None


@plants
def average_not_loaded():
    from torch.optim.swa_utils import AveragedModel

    yield AveragedModel, "load_state_dict", lambda self, state: None


@plants
def first_weights_saved():
    first = {}

    def change(state):
        if not first:
            first.update(copy.deepcopy(state["model"]))
        state["model"] = first

    from brainbrr.training import session

    original = session._build_state

    def build(*args):
        state = original(*args)
        first.update(copy.deepcopy(state.model.state_dict()))
        return state

    yield session, "_build_state", build
    yield from _changed_state(change)


@plants
def failures_hidden():
    from brainbrr.training.loop import Loop

    original = Loop._train_step
    calls = []

    def step(self, group):
        calls.append(group)
        try:
            if len(calls) % 2 == 0:
                self.forward(group.batches[0]["signal"][:, :3])
            original(self, group)
        except Exception:  # the fault
            self.state.progress.step += 1
            self.state.sampler.advance(group.n_global)

    yield Loop, "_train_step", step
