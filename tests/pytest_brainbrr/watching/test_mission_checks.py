"""The five checks of the mission: a planted fault for each sentence they say, and healthy neighbors."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from watching_help import watched

from pytest_brainbrr.checks import devices, gradients, shapes, weights
from pytest_brainbrr.results import Outcome
from pytest_brainbrr.targets import Target
from pytest_brainbrr.trace import Trace

STEPS = 4


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.norm, self.head = nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.norm(self.encoder(x)))).squeeze(-1)


def loop(
    net: nn.Module,
    *,
    optimizer: torch.optim.Optimizer | None = None,
    loss: Callable[..., torch.Tensor] = nn.functional.binary_cross_entropy_with_logits,
    between: Callable[[torch.optim.Optimizer], object] = lambda _: None,
    rates: Callable[[int], float] | None = None,
) -> Callable[[], None]:
    def train() -> None:
        updater = optimizer or torch.optim.SGD(net.parameters(), lr=0.1)
        for step in range(STEPS):
            if rates is not None:
                for group in updater.param_groups:
                    group["lr"] = rates(step)
            updater.zero_grad()
            loss(net(torch.randn(8, 6)), torch.randint(0, 2, (8,)).float()).backward()
            between(updater)
            updater.step()

    return train


def judged(check: str, train: Callable[[], object], folder: Path, **facts: object) -> Outcome:
    torch.manual_seed(0)
    (found,) = [row for room in (shapes, gradients, weights, devices) for row in room.CHECKS if row.id == check]
    _, trace = watched(train, folder)
    return found.run({"straight": trace}, Target("t", train=print, **facts))  # type: ignore[arg-type]


def told(outcome: Outcome) -> list[tuple[str, str]]:
    return [(finding.where, finding.severity) for finding in outcome.findings]


class Detached(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.norm(self.encoder(x))).detach()).squeeze(-1)


class Idle(Net):
    def __init__(self) -> None:
        super().__init__()
        self.branch = nn.Sequential(nn.Linear(6, 2), nn.ReLU(), nn.Linear(2, 2))


class Rooted(Net):
    """Gives NaN gradients from finite values: the square root at zero."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + (self.encoder(x) * 0).sum(-1).sqrt()


class Still(Net):
    def __init__(self) -> None:
        super().__init__()
        nn.init.zeros_(self.head.weight)
        self.encoder.requires_grad_(False)


@pytest.mark.parametrize(
    ("net", "expected"),
    [
        (Detached, [("encoder", "error"), ("norm", "error")]),
        (Idle, [("branch", "warning")]),
        (Rooted, [("encoder.weight", "error"), ("encoder.bias", "error")]),
    ],
)
def test_gradient_flow_names_the_module(net: type[Net], expected: list[tuple[str, str]], tmp_path: Path) -> None:
    assert told(judged("gradient-flow", loop(net()), tmp_path)) == expected


def test_gradient_flow_accepts_what_is_declared_unused(tmp_path: Path) -> None:
    assert judged("gradient-flow", loop(Idle()), tmp_path, unused=["branch.*"]).status == "passed"


@pytest.mark.parametrize("check", ["gradient-flow", "weight-changes"])
def test_frozen_encoders_and_zero_heads_are_healthy(check: str, tmp_path: Path) -> None:
    net = Net()
    nn.init.zeros_(net.head.weight)
    nn.init.zeros_(net.head.bias)
    assert judged(check, loop(net), tmp_path / "zero").status == "passed"
    assert judged(check, loop(Still()), tmp_path / "still").status == "passed"


@pytest.mark.parametrize("check", ["gradient-flow", "weight-changes"])
def test_tied_weights_and_helping_networks_are_healthy(check: str, tmp_path: Path) -> None:
    net, helper = Net(), nn.Linear(1, 1)
    net.second = nn.Linear(6, 5)
    net.second.weight = net.encoder.weight
    net.second.bias = net.encoder.bias

    def loss(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return helper(logits[:, None]).pow(2).mean() + nn.functional.binary_cross_entropy_with_logits(logits, label)

    assert judged(check, loop(net, loss=loss), tmp_path).status == "passed"


@pytest.mark.parametrize("check", ["gradient-flow", "weight-changes"])
def test_a_warm_up_from_zero_is_healthy(check: str, tmp_path: Path) -> None:
    assert judged(check, loop(Net(), rates=lambda step: 0.1 * step), tmp_path).status == "passed"


def test_steps_that_a_scaler_skips_are_healthy(tmp_path: Path) -> None:
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, growth_interval=1)

    def train() -> None:
        for _ in range(STEPS):
            optimizer.zero_grad()
            loss = nn.functional.binary_cross_entropy_with_logits(net(torch.randn(8, 6)), torch.ones(8))
            scaler.scale(loss * 1e6).backward()
            scaler.step(optimizer)
            scaler.update()

    outcome = judged("weight-changes", train, tmp_path)
    assert outcome.status == "passed"
    assert Trace.read(tmp_path / "trace").skipped_steps > 0


def test_an_optimizer_with_the_head_only(tmp_path: Path) -> None:
    net = Net()
    outcome = judged("weight-changes", loop(net, optimizer=torch.optim.SGD(net.head.parameters(), lr=0.1)), tmp_path)
    assert told(outcome) == [("encoder", "error"), ("norm", "error")]
    assert "in no optimizer" in outcome.findings[0].message


def test_a_learning_rate_of_zero(tmp_path: Path) -> None:
    outcome = judged("weight-changes", loop(Net(), rates=lambda _: 0.0), tmp_path)
    assert outcome.status == "failed"
    assert {finding.cause for finding in outcome.findings} == {"its learning rate was 0 at every step"}


def test_gradients_cleared_before_the_step(tmp_path: Path) -> None:
    outcome = judged("weight-changes", loop(Net(), between=lambda optimizer: optimizer.zero_grad()), tmp_path)
    assert outcome.status == "failed"
    assert "between backward and optimizer.step()" in outcome.findings[0].cause


def test_updates_below_the_resolution_of_half_precision(tmp_path: Path) -> None:
    net = nn.Linear(6, 1).to(torch.bfloat16)
    nn.init.constant_(net.weight, 1.0)
    nn.init.constant_(net.bias, 1.0)

    def train() -> None:
        optimizer = torch.optim.SGD(net.parameters(), lr=1e-7)
        for _ in range(STEPS):
            optimizer.zero_grad()
            net(torch.randn(8, 6, dtype=torch.bfloat16)).pow(2).mean().backward()
            optimizer.step()

    outcome = judged("weight-changes", train, tmp_path)
    assert "resolution" in outcome.findings[0].cause


def test_no_step_at_all(tmp_path: Path) -> None:
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)

    def train() -> None:
        for _ in range(STEPS):
            nn.functional.mse_loss(net(torch.randn(8, 6)), torch.zeros(8)).backward()
        optimizer.zero_grad()

    outcome = judged("weight-changes", train, tmp_path)
    assert [finding.message for finding in outcome.findings] == [
        "no optimizer step was taken, and no parameter changed"
    ]


def test_a_frozen_part_that_moves(tmp_path: Path) -> None:
    outcome = judged("weight-changes", loop(Net()), tmp_path, frozen=["encoder.*"])
    # The bias before a normalization gets rounding errors for gradients, and may stand still.
    assert ("encoder.weight", "error") in told(outcome)
    assert {where for where, _ in told(outcome)} <= {"encoder.weight", "encoder.bias"}


def test_statistics_that_are_put_back(tmp_path: Path) -> None:
    net = Net()
    start = {name: buffer.clone() for name, buffer in net.named_buffers()}

    def restore(_: object) -> None:
        for name, buffer in net.named_buffers():
            buffer.copy_(start[name])

    assert told(judged("weight-changes", loop(net, between=restore), tmp_path)) == [("norm", "error")]


def test_shapes_are_compared_with_what_is_declared(tmp_path: Path) -> None:
    assert judged("shapes", loop(Net()), tmp_path / "a", input_shape=(None, 6), output_shape=(None,)).status == "passed"
    outcome = judged("shapes", loop(Net()), tmp_path / "b", input_shape=(None, 7), output_shape=(None, 1))
    assert told(outcome) == [("Net: input", "error"), ("Net: output", "error")]


def test_inner_shapes_are_compared_and_must_be_seen(tmp_path: Path) -> None:
    assert judged("shapes", loop(Net()), tmp_path / "a", inner_shapes={"encoder": (8, 5)}).status == "passed"
    outcome = judged("shapes", loop(Net()), tmp_path / "b", inner_shapes={"encoder": (8, 6), "decoder": (None,)})
    assert told(outcome) == [("Net: encoder", "error"), ("decoder", "error")]


def test_a_loss_that_compares_everything_with_everything(tmp_path: Path) -> None:
    def loss(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return nn.functional.l1_loss(logits[:, None].expand(8, 8), label.expand(8, 8)) + _quiet(logits[:, None], label)

    outcome = judged("shapes", loop(Net(), loss=loss), tmp_path)
    assert told(outcome) == [("mse_loss", "error")]


def _quiet(value: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.functional.mse_loss(value, label)


@pytest.mark.parametrize("check", ["shapes", "gradient-flow", "weight-changes", "cuda-allocation"])
def test_a_run_without_training_is_vacuous(check: str, tmp_path: Path) -> None:
    assert judged(check, lambda: None, tmp_path).status == "vacuous"


@pytest.mark.skipif(torch.cuda.is_available(), reason="speaks of machines without CUDA")
def test_without_cuda_the_allocation_check_is_vacuous(tmp_path: Path) -> None:
    assert judged("cuda-allocation", loop(Net()), tmp_path).reason == "no CUDA device here"


def cuda_trace(**changes: object) -> Trace:
    facts = {"cuda_allocated_mb": 10.0, "cuda_peak_mb": 20.0, "device": "cuda:0", "grown": 0.0, **changes}
    device, base = facts["device"], {"pid": 1, "role": "main", "after": False, "t": 0.0}
    parameter = {"id": "p0", "name": "head.weight", "device": device, "requires_grad": True}
    events = [
        {"kind": "settings", "cuda_available": True, "step": 0},
        {
            "kind": "model",
            "id": "m0",
            "label": "Net",
            "parameters": [parameter],
            "buffers": [],
            "modules": [],
            "step": 0,
        },
    ]
    for step in range(1, 5):
        size = facts["cuda_allocated_mb"]
        assert isinstance(size, float)
        size += facts["grown"] if step > 2 else 0.0  # type: ignore[operator]
        events.append(
            {"kind": "memory", "step": step, "cuda_allocated_mb": size, "cuda_peak_mb": facts["cuda_peak_mb"]}
        )
    return Trace([{**base, "n": n, **event} for n, event in enumerate(events)])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"cuda_allocated_mb": 0.0}, ["a CUDA device is there, but nothing was allocated on it"]),
        ({"grown": 1.0}, ["more memory is held after step 3 than after step 2"]),
        ({"cuda_peak_mb": 99.0}, ["the peak of allocated memory is above the declared budget"]),
        ({"device": "cpu"}, ["a trained parameter is not on the CUDA device"]),
    ],
)
def test_allocation_is_judged_on_cuda(changes: dict[str, object], expected: list[str]) -> None:
    outcome = devices.CHECKS[0].run(
        {"straight": cuda_trace(**changes)}, Target("t", train=print, memory_budget_mb=50.0)
    )
    assert [finding.message for finding in outcome.findings] == expected
