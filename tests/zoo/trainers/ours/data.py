"""Faults of the data path: reading, labels, split and sampling."""

import sys
from dataclasses import replace

from zoo.trainers.ours.planting import plants

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
