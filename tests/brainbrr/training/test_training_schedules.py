import pytest
import torch

from brainbrr.config.training import Schedule
from brainbrr.training.schedules import build_schedule, rate_factor


@pytest.mark.parametrize("name", ["cosine", "linear", "constant"])
@pytest.mark.parametrize(("warmup", "planned"), [(0.0, 1), (0.1, 12), (0.5, 7), (0.99, 100)])
def test_rates_rise_to_the_peak_then_never_rise_and_never_vanish(name, warmup, planned):
    config = Schedule(name=name, warmup_share=warmup, floor_share=0.0)
    rates = [rate_factor(config, step, planned) for step in range(planned)]
    peak = rates.index(max(rates))
    assert max(rates) == 1.0
    assert min(rates) > 0
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)


@pytest.mark.parametrize("name", ["cosine", "linear"])
def test_the_floor_is_reached_after_the_last_planned_step_and_kept(name):
    config = Schedule(name=name, floor_share=0.1)
    assert rate_factor(config, 50, 50) == pytest.approx(0.1)
    assert rate_factor(config, 80, 50) == pytest.approx(0.1)
    assert rate_factor(config, 49, 50) > 0.1


def test_the_first_step_takes_the_first_rate():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = build_schedule(Schedule(warmup_share=0.4), optimizer, 10)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.5)
    optimizer.step()
    schedule.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(1.0)
