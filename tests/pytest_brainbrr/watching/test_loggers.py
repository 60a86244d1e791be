"""Numbers handed to TensorBoard and wandb (offline) are seen, where these are installed."""

from pathlib import Path

import pytest
from watching_help import watched


@pytest.mark.filterwarnings("ignore")
def test_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")

    def trainer() -> None:
        from torch.utils.tensorboard import SummaryWriter

        with SummaryWriter(tmp_path / "runs") as writer:
            writer.add_scalar("loss", 1.5, 3)
            writer.add_scalars("val", {"f1": 0.5}, global_step=4)

    _, trace = watched(trainer, tmp_path)
    assert [(event["values"], event["at"]) for event in trace.events("metric")] == [
        ({"loss": 1.5}, 3),
        ({"f1": 0.5}, 4),
    ]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_wandb_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")

    def trainer() -> None:
        run = wandb.init(project="x", dir=str(tmp_path))
        wandb.log({"loss": 2.0}, step=1)
        run.log({"f1": 0.5}, step=2)
        run.finish()

    _, trace = watched(trainer, tmp_path)
    assert [(event["values"], event["at"]) for event in trace.events("metric")] == [
        ({"loss": 2.0}, 1),
        ({"f1": 0.5}, 2),
    ]
    assert trace.events("observer_error", role=None) == []
