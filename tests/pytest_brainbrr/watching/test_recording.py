"""What the observers write down of runs that are known in every detail."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from odd_trainers import TRAINERS, Net, bare, batches
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset
from watching_help import watched

from pytest_brainbrr.observers.tensors import digest, facts, row_digests


def test_steps_carry_rates_gradients_and_updates(tmp_path: Path) -> None:
    def trainer() -> list[float]:
        torch.manual_seed(0)
        net = nn.Linear(3, 1, bias=False)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
        before = net.weight.detach().clone()
        optimizer.zero_grad()
        net(torch.ones(2, 3)).sum().backward()
        optimizer.step()
        return [float((net.weight.detach() - before).norm()), float(before.norm())]

    (update, weight), trace = watched(trainer, tmp_path)
    (step,) = trace.steps
    (fact,) = step["parameters"]
    assert (fact["name"], fact["grad"], fact["moved"], fact["changed"]) == ("weight", "finite", True, 1.0)
    assert fact["update_norm"] == pytest.approx(update)
    assert fact["weight_norm"] == pytest.approx(weight)
    assert fact["descent"] == pytest.approx(-0.5 * fact["grad_norm"] ** 2)
    assert step["groups"][0]["lr"] == 0.5
    assert (step["backwards"], step["forwards"]) == (1, [0])


def test_phases_follow_from_what_backward_reaches(tmp_path: Path) -> None:
    _, trace = watched(bare, tmp_path)
    assert [call["phase"] for call in trace.events("forward")] == ["train"] * 4 + ["eval"]
    assert [call["training"] for call in trace.eval_calls] == [False]
    assert [batch["position"] for batch in trace.batches("train")] == [0, 1, 2, 3]


def test_a_training_call_in_eval_mode_is_still_a_training_call(tmp_path: Path) -> None:
    def trainer() -> None:
        net = Net().eval()
        nn.functional.mse_loss(net(torch.randn(4, 3, 16)), torch.zeros(4)).backward()

    _, trace = watched(trainer, tmp_path)
    assert [(call["phase"], call["training"]) for call in trace.events("forward")] == [("train", False)]


def test_gradients_are_seen_before_clipping_and_when_they_linger(tmp_path: Path) -> None:
    def trainer() -> None:
        net = nn.Linear(2, 1)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        for _ in range(2):
            (net(torch.full((1, 2), 100.0)) * torch.tensor(float("inf"))).sum().backward()
            for parameter in net.parameters():
                parameter.grad = torch.nan_to_num(parameter.grad, posinf=1.0)
            optimizer.step()

    _, trace = watched(trainer, tmp_path)
    first, second = trace.events("backward")
    assert len(first["raw_nonfinite"]) == 2
    assert all(fact["grad"] == "finite" for step in trace.steps for fact in step["parameters"])
    assert (first["grads_before"]["none"], second["grads_before"]["nonzero"]) == (2, 2)


def test_layers_in_a_list_show_as_unregistered(tmp_path: Path) -> None:
    class Hidden(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = [nn.Linear(3, 3)]
            self.head = nn.Linear(3, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.layers[0](x))

    _, trace = watched(lambda: Hidden()(torch.randn(2, 3)).sum().backward(), tmp_path)
    (backward,) = trace.events("backward")
    assert sum(leaf["n"] for leaf in backward["unregistered_leaves"]) == 2
    assert trace.events("model")[0]["unregistered"] == [{"path": "layers", "count": 1}]


def test_scaler_skips_are_told_from_steps(tmp_path: Path) -> None:
    _, trace = watched(TRAINERS["scaled"], tmp_path)
    actions = [event["action"] for event in trace.events("scaler")]
    assert actions == ["init", *["scale", "unscale", "step", "update"] * 4]
    assert trace.skipped_steps + len(trace.steps) == 4


def test_several_optimizers_share_an_iteration(tmp_path: Path) -> None:
    _, trace = watched(TRAINERS["adversarial"], tmp_path)
    assert len(trace.steps) == 8
    assert max(event["step"] for event in trace.all) == 4


def test_copies_are_found_in_every_form(tmp_path: Path) -> None:
    _, trace = watched(TRAINERS["averaged"], tmp_path)
    found = {event["form"]: event for event in trace.events("copy")}
    assert set(found) == {"AveragedModel", "module", "dict"}
    assert found["module"]["decay"] == pytest.approx(0.9, abs=1e-3)
    assert found["AveragedModel"]["updates"] == 3  # at the border of step 4, before its update


def test_loaders_tell_indices_and_samples_even_with_workers(tmp_path: Path) -> None:
    _, trace = watched(TRAINERS["by_workers"], tmp_path)
    given = [index for batch in trace.events("batch") for index in batch["indices"]]
    # The fifth batch begins the second pass, which the trainer leaves again at once.
    assert sorted(given[:32]) == list(range(32))
    workers = trace.events("worker", role="worker")
    assert {event["worker"] for event in workers} == {0, 1}
    assert len({event["numpy"] for event in workers}) >= 1


def test_subset_indices_lead_to_the_data_set_below(tmp_path: Path) -> None:
    def trainer() -> None:
        whole = TensorDataset(torch.arange(10.0))
        for _ in DataLoader(Subset(Subset(whole, [8, 6, 4, 2]), [3, 1]), 2):
            pass

    _, trace = watched(trainer, tmp_path)
    (batch,) = trace.events("batch")
    assert (batch["indices"], batch["base_indices"]) == ([0, 1], [2, 6])
    assert batch["tensors"][0]["values"] == [2.0, 6.0]


def test_lists_read_by_a_new_loader_each_time_are_not_taken_for_one_another(tmp_path: Path) -> None:
    def trainer() -> None:
        train, held_out = list(torch.arange(6.0)), list(torch.arange(4.0))
        for _ in range(3):
            for data in (train, held_out):
                next(iter(DataLoader(data, 2)))

    _, trace = watched(trainer, tmp_path)
    assert [event["length"] for event in trace.events("dataset")] == [6, 4] * 3
    assert len({event["id"] for event in trace.events("dataset")}) == 6


def test_a_schedule_that_the_code_steps_some_epochs_later_waits(tmp_path: Path) -> None:
    def made() -> torch.optim.lr_scheduler.LRScheduler:
        return torch.optim.lr_scheduler.StepLR(torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1), 1)

    def later() -> None:
        scheduler = torch.optim.lr_scheduler.StepLR(torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1), 1)
        for epoch in range(3):
            if epoch >= 10:
                scheduler.step()

    def in_a_branch(way: str = "batch") -> None:
        scheduler = torch.optim.lr_scheduler.StepLR(torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1), 1)
        if way == "step":
            scheduler.step()

    for function, waits in ((later, True), (in_a_branch, False), (made, False)):
        _, trace = watched(function, tmp_path / function.__name__)
        assert [event["waits"] for event in trace.events("scheduler", action="init")] == [waits]


def test_checkpoints_show_keys_digests_and_atomicity(tmp_path: Path) -> None:
    def trainer() -> None:
        net = Net()
        torch.save({"model": net.state_dict(), "epoch": 3}, tmp_path / "plain.pt")
        torch.save(net.state_dict(), tmp_path / "whole.tmp")
        (tmp_path / "whole.tmp").replace(tmp_path / "whole.pt")
        net.load_state_dict(torch.load(tmp_path / "whole.pt", weights_only=True))

    _, trace = watched(trainer, tmp_path)
    plain, whole = trace.checkpoints
    assert (plain["final"], plain["atomic"], plain["scalars"]["epoch"]) == ("plain.pt", False, 3)
    assert (whole["final"], whole["atomic"]) == ("whole.pt", True)
    assert whole["tensors"]["head.weight"] == plain["tensors"]["model/head.weight"]
    (load,) = trace.events("load_state_dict")
    assert (load["missing"], load["unexpected"], load["loaded"], load["keys"]) == ([], [], 9, 9)
    assert trace.events("checkpoint_read")[0]["path"] == "whole.pt"


def test_prefixed_keys_show_as_missing(tmp_path: Path) -> None:
    def trainer() -> None:
        net = Net()
        net.load_state_dict({f"module.{key}": value for key, value in net.state_dict().items()}, strict=False)

    _, trace = watched(trainer, tmp_path)
    (load,) = trace.events("load_state_dict")
    assert (len(load["missing"]), len(load["unexpected"]), load["loaded"], load["strict"]) == (9, 9, 0, False)


def test_held_graphs_are_counted(tmp_path: Path) -> None:
    def trainer() -> None:
        net, kept = Net(), []
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        for x, y in batches(4):
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(net(x), y)
            loss.backward()
            kept.append(loss)
            optimizer.step()

    _, trace = watched(trainer, tmp_path)
    graphs = [event["graphs"] for event in trace.events("memory")]
    assert [later - earlier for earlier, later in pairwise(graphs)] == [1, 1, 1]


def test_compiled_and_direct_calls_are_said_to_be_out_of_sight(tmp_path: Path) -> None:
    def trainer() -> None:
        net = Net(norm=False)
        torch.optim.SGD(net.parameters(), lr=0.1)
        net.head.forward(torch.randn(2, 8)).sum().backward()

    _, trace = watched(trainer, tmp_path)
    assert [event["what"] for event in trace.events("not_observed")] == ["forward_called_directly"]
    (tmp_path / "two").mkdir()
    _, trace = watched(TRAINERS["compiled"], tmp_path / "two")
    assert "compiled_module" in {event["what"] for event in trace.events("not_observed")}


def test_digests_tell_order_type_and_layout() -> None:
    value = torch.arange(12.0).reshape(3, 4)
    assert digest(value) == digest(value.clone()) == digest(value.t().contiguous().t())
    assert digest(value) != digest(value.flip(0))
    assert digest(torch.tensor([1.0, 1.0])) != digest(torch.tensor([2.0, 2.0]))
    assert row_digests(value) == [digest(row) for row in value]
    assert digest(torch.zeros(2, device="meta")) is None
    assert digest(torch.empty(0)) == "00000000"


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool, torch.complex64]
)
def test_facts_hold_for_every_type(dtype: torch.dtype) -> None:
    found = facts(torch.tensor([0, 1, 1, 0]).to(dtype), "x")
    assert (found["finite"], found["min"], found["max"], found["values"]) == (True, 0.0, 1.0, [0.0, 1.0])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_facts_see_what_is_not_finite(bad: float) -> None:
    value = torch.zeros(100)
    value[37] = bad
    assert facts(value)["finite"] is False
