"""Parts of the engine trainer: the network, the average of its weights, the order of its batches."""

import copy

import torch
from torch import Tensor, nn
from torch.utils.data import Sampler


class PatchNet(nn.Module):
    """Cut (B, 4, 64) into patches, mix them with an MLP, return one logit per window (B,)."""

    def __init__(self, width: int = 16, *, keep_column: bool = False, extra_channels: int = 0) -> None:
        super().__init__()
        self.keep_column = keep_column
        self.stem = nn.Conv1d(4 + extra_channels, width, kernel_size=8, stride=8)
        self.norm = nn.LayerNorm(width)
        self.mixer = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(0.1), nn.Linear(2 * width, width))
        self.head = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.stem(x).transpose(1, 2)
        tokens = tokens + self.mixer(self.norm(tokens))
        logits = self.head(tokens.mean(1))
        return logits if self.keep_column else logits.squeeze(1)


class WeightAverage:
    """Exponential moving average of a model's parameters; buffers are copied."""

    def __init__(self, model: nn.Module, decay: float, faults: frozenset[str]) -> None:
        self.decay = decay
        self.faults = faults
        self.model = model if "ema-shares-weights" in faults else copy.deepcopy(model)
        self.model.requires_grad_("ema-shares-weights" in faults)
        self.source = copy.deepcopy(model) if "ema-follows-a-copy" in faults else model
        self.backup: dict[str, Tensor] = {}

    @torch.no_grad()
    def update(self) -> None:
        if "ema-never-updated" in self.faults:
            return
        for average, current in zip(self.model.parameters(), self.source.parameters(), strict=True):
            average.lerp_(current.to(average.dtype), 1 - self.decay)

    def swap_in(self, model: nn.Module) -> None:
        self.backup = {name: value.clone() for name, value in model.state_dict().items()}
        model.load_state_dict(self.model.state_dict())

    def swap_out(self, model: nn.Module) -> None:
        model.load_state_dict(self.backup)
        self.backup = {}

    def state_dict(self) -> dict[str, Tensor]:
        return self.model.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.model.load_state_dict(state)


class ShuffledBatches(Sampler[list[int]]):
    """Batches of indices in an order of their own for each epoch; the position is part of the state."""

    def __init__(self, weights: Tensor | None, n: int, batch_size: int, seed: int) -> None:
        self.weights = weights
        self.n = n
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0
        self.position = 0

    def __len__(self) -> int:
        return self.n // self.batch_size - self.position

    def __iter__(self):
        generator = torch.Generator().manual_seed(7919 * self.seed + self.epoch)
        if self.weights is None:
            order = torch.randperm(self.n, generator=generator).tolist()
        else:
            order = torch.multinomial(self.weights, self.n, replacement=True, generator=generator).tolist()
        for start in range(self.position * self.batch_size, self.n - self.batch_size + 1, self.batch_size):
            yield order[start : start + self.batch_size]

    def advance(self) -> None:
        self.position += 1
        if self.position * self.batch_size >= self.n:
            self.epoch, self.position = self.epoch + 1, 0

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.epoch, self.position = state["epoch"], state["position"]
