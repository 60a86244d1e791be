"""The verdict, the proportions, and going on where another sampler stopped."""

import logging

import numpy as np
import pytest
from data_files import settings, small_corpus, tusz_recording
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from brainbrr.config.data import Sampling
from brainbrr.errors import CheckpointError, ConfigError, NoSeizureError
from brainbrr.windows import WindowSampler, load_split, make_sampler
from brainbrr.windows.cutting import FULL, NONE, PARTIAL

pytestmark = pytest.mark.usefixtures("own_cache")


class Index:
    """The part of Windows that a sampler sees."""

    def __init__(self, none, partial, full, seed=0):
        kinds = [NONE] * none + [PARTIAL] * partial + [FULL] * full
        self.kinds = np.random.default_rng(seed).permutation(np.array(kinds, np.int8))
        self.n_windows = len(kinds)
        self.n_seizure_windows = partial + full
        self.starts = np.arange(self.n_windows)
        self.recordings = []
        self.n_used = 0


def kinds_of(index, order):
    return [int((index.kinds[order] == kind).sum()) for kind in (NONE, PARTIAL, FULL)]


@given(st.integers(0, 60), st.integers(0, 30), st.integers(0, 30), st.tuples(*[st.floats(0, 1)] * 3), st.integers(0, 5))
def test_proportions_are_those_configured(none, partial, full, shares, seed):
    if none + partial + full == 0 or shares[1] + shares[2] < 0.01:
        return
    sampling = Sampling(none_share=shares[0], partial_share=shares[1], full_share=shares[2], windows_per_epoch=100)
    index = Index(none, partial, full)
    sampler = WindowSampler(index, sampling, seed=seed)
    order = sampler.order(0)
    assert len(order) == 100
    found = kinds_of(index, order)
    if partial and full and none:
        for count, share in zip(found, shares, strict=True):
            assert abs(count - 100 * share / sum(shares)) < 1
    elif not partial + full:
        assert found == [100, 0, 0]
    else:  # seizures keep their share whatever kinds of seizure window there are
        expected = 100 * sum(shares[1:]) / sum(shares) if none else 100
        assert abs(sum(found[1:]) - expected) < 2
    # No window comes twice before every other of its kind came once.
    times = np.bincount(order, minlength=index.n_windows)
    for kind in (NONE, PARTIAL, FULL):
        if found[kind]:
            assert np.ptp(times[index.kinds == kind]) <= 1


def test_an_epoch_shows_every_seizure_window_about_once():
    index = Index(500, 40, 10)
    sampler = WindowSampler(index, Sampling(), seed=0)
    assert kinds_of(index, sampler.order(0)) == [50, 40, 10]
    seen = set(sampler.order(0).tolist())
    assert set(np.flatnonzero(index.kinds != NONE).tolist()) <= seen


def test_uniform_takes_every_window_once():
    index = Index(50, 4, 1)
    assert sorted(WindowSampler(index, Sampling(strategy="uniform"), seed=3).order(2).tolist()) == list(range(55))


def test_orders_depend_on_seed_and_epoch_only():
    index = Index(100, 20, 5)
    first = WindowSampler(index, Sampling(), seed=1)
    assert (first.order(0) == WindowSampler(index, Sampling(), seed=1, rank=1, world_size=2).order(0)).all()
    assert (first.order(0) != first.order(1)).any()
    assert (first.order(0) != WindowSampler(index, Sampling(), seed=2).order(0)).any()


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 7])
def test_ranks_divide_an_epoch_evenly(world_size):
    index = Index(100, 20, 5)
    samplers = [WindowSampler(index, Sampling(), seed=1, rank=r, world_size=world_size) for r in range(world_size)]
    lists = [list(sampler) for sampler in samplers]
    assert {len(one) for one in lists} == {len(samplers[0])}
    together = [i for step in zip(*lists, strict=True) for i in step]
    order = WindowSampler(index, Sampling(), seed=1).order(0).tolist()
    assert together == (order + order)[: samplers[0].n_epoch]
    assert samplers[0].n_epoch < len(order) + world_size


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.integers(0, 5))
def test_another_number_of_ranks_goes_on_at_the_right_window(before, after, batch, steps):
    index = Index(200, 20, 5)
    everything = WindowSampler(index, Sampling(), seed=9).order(1)
    stopped = WindowSampler(index, Sampling(), seed=9, world_size=before)
    stopped.set_epoch(1)
    for _ in range(steps):
        stopped.advance(batch * before)
    lists = []
    for rank in range(after):
        sampler = WindowSampler(index, Sampling(), seed=0, rank=rank, world_size=after)
        sampler.load_state_dict(stopped.state_dict())
        sampler.set_epoch(1)  # the epoch under way goes on
        lists.append(list(sampler))
        assert len(sampler) == len(lists[-1])
    together = [i for step in zip(*lists, strict=True) for i in step]
    done = batch * before * steps
    assert together[: len(everything) - done] == everything[done:].tolist()


def test_state_of_other_windows_is_refused():
    state = WindowSampler(Index(100, 20, 5), Sampling(), seed=1).state_dict()
    with pytest.raises(CheckpointError, match="not those of the checkpoint"):
        WindowSampler(Index(100, 20, 5, seed=1), Sampling(), seed=1).load_state_dict(state)
    with pytest.raises(CheckpointError, match="not those of the checkpoint"):
        WindowSampler(Index(100, 20, 5), Sampling(none_share=0.1), seed=1).load_state_dict(state)


def test_the_next_epoch_starts_at_its_start():
    sampler = WindowSampler(Index(100, 20, 5), Sampling(), seed=1)
    sampler.advance(7)
    sampler.set_epoch(1)
    assert list(sampler) == sampler.order(1).tolist()


def without_seizures(tmp_path):
    for patient in ("aaaaaaaa", "aaaaaaab"):
        tusz_recording(tmp_path, patient)
    return load_split(settings(tmp_path), "train")


def test_no_seizure_is_fatal_before_anything_is_read(tmp_path, monkeypatch, own_cache):
    windows = without_seizures(tmp_path)
    monkeypatch.setattr("brainbrr.windows.store.read_recording", None)
    with pytest.raises(NoSeizureError) as caught:
        make_sampler(windows.config, windows, seed=0)
    assert str(caught.value) == "No seizures found in 10 windows!"
    assert not (own_cache / "windows").exists()


def test_smoke_mode_opens_this_one_door(tmp_path, monkeypatch, caplog):
    windows = without_seizures(tmp_path)
    monkeypatch.setenv("BGB_SMOKE_TEST", "1")
    with caplog.at_level(logging.WARNING):
        sampler = make_sampler(windows.config, windows, seed=0)
    assert [r.message for r in caplog.records] == [
        "No seizures found in 10 windows! Smoke mode is on: sampling uniformly. This run is not for training."
    ]
    assert sorted(sampler) == list(range(10))


@pytest.mark.parametrize("value", ["true", "yes", "2"])
def test_unclear_smoke_mode_is_an_error(tmp_path, monkeypatch, value):
    windows = without_seizures(tmp_path)
    monkeypatch.setenv("BGB_SMOKE_TEST", value)
    with pytest.raises(ConfigError, match="BGB_SMOKE_TEST"):
        make_sampler(windows.config, windows, seed=0)


def test_smoke_mode_changes_nothing_where_there_are_seizures(tmp_path, monkeypatch, caplog):
    config = settings(small_corpus(tmp_path))
    normal = make_sampler(config, load_split(config, "train"), seed=0)
    monkeypatch.setenv("BGB_SMOKE_TEST", "1")
    with caplog.at_level(logging.WARNING):
        smoke = make_sampler(config, load_split(config, "train"), seed=0)
    assert not caplog.records
    assert type(normal) is type(smoke)
    assert list(normal) == list(smoke)
    assert normal.state_dict() == smoke.state_dict()


def test_the_verdict_is_asked_again_when_bad_recordings_were_left_out(tmp_path):
    small_corpus(tmp_path)
    (only,) = tmp_path.glob("edf/train/aaaaaaac/*/*/*.edf")
    only.write_bytes(only.read_bytes()[: 256 * 20] + b"\0" * (only.stat().st_size - 256 * 20))
    config = settings(tmp_path, data={"on_bad_recording": "skip", "max_skipped_share": 0.5})
    windows = load_split(config, "train")
    assert windows.n_seizure_windows > 0
    with pytest.raises(NoSeizureError, match="No seizures found in 10 windows!"):
        make_sampler(config, windows, seed=0)


@hypothesis_settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 3))
def test_not_requiring_seizures_samples_what_there_is(tmp_path, seed):
    windows = (
        without_seizures(tmp_path) if not list(tmp_path.rglob("*.edf")) else load_split(settings(tmp_path), "train")
    )
    assert sorted(make_sampler(windows.config, windows, seed=seed, require_seizures=False)) == list(range(10))
