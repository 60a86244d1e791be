import pytest

from brainbrr.config import config_from_mapping
from brainbrr.training.batches import cut_shares, steps_per_epoch
from brainbrr.training.loop import planned_steps
from brainbrr.training.validation import spread


@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
@pytest.mark.parametrize(("n", "batch_size"), [(1, 4), (12, 4), (13, 4), (15, 6)])
def test_every_window_goes_to_exactly_one_process_in_the_batch_of_the_single_process(n, batch_size, world_size):
    order = [7 * i % n for i in range(n)] if n % 7 else list(range(n))
    alone = cut_shares(order, batch_size)
    shares = [cut_shares(order, batch_size, rank, world_size) for rank in range(world_size)]
    for number, whole in enumerate(alone):
        parts = [share[number] for share in shares]
        assert sorted(w for part in parts if not part.filler for w in part.windows) == sorted(whole.windows)
        assert {part.n_global for part in parts} == {len(whole.windows)}
        assert all(part.windows for part in parts)
        assert not parts[0].filler


@pytest.mark.parametrize(
    ("training", "n_windows", "planned"),
    [
        ({"epochs": 3, "batch_size": 4}, 9, 9),
        ({"epochs": 3, "batch_size": 4, "accumulate": 2}, 9, 6),
        ({"epochs": 3, "batch_size": 2, "accumulate": 4, "max_steps": 5}, 9, 5),
        ({"epochs": 2, "batch_size": 4, "pause_at_step": 1}, 8, 4),
    ],
)
def test_the_horizon_is_what_will_really_run(training, n_windows, planned):
    config = config_from_mapping({"run": {"name": "x", "output_dir": "x"}, "training": training}, "test")
    assert planned_steps(config, n_windows) == planned


def test_steps_per_epoch_counts_partial_steps():
    assert [steps_per_epoch(n, 2, 3) for n in (1, 6, 7, 12, 13)] == [1, 1, 2, 2, 3]


def test_spread_is_even_and_bounded():
    assert spread(100, 4) == [0, 25, 50, 75]
    assert spread(2, 5) == [0, 1]
