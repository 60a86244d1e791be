"""No tensor, module, data set or output is so odd that an observer fails on it."""

import dataclasses
import io
import os
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map
from torch.utils.data import DataLoader, Dataset, IterableDataset
from watching_help import watched


def fit(net: Any, make: Callable[[], Any], loss: Callable[[Any], Tensor] | None = None) -> None:
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    for _ in range(2):
        optimizer.zero_grad()
        out = net(make())
        (loss(out) if loss is not None else out.abs().mean()).backward()
        optimizer.step()


def conjugated() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(5, 3, dtype=torch.cfloat))

        def forward(self, x: Tensor) -> Tensor:
            return x @ self.weight

    fit(Net(), lambda: torch.randn(4, 5, dtype=torch.cfloat).conj())


def ragged() -> None:
    for layout in (torch.jagged, torch.strided):
        parts = [torch.randn(2, 4), torch.randn(3, 4)]
        fit(
            nn.Linear(4, 2),
            lambda layout=layout, parts=parts: torch.nested.nested_tensor(parts, layout=layout),
            lambda out: out.to_padded_tensor(0.0).pow(2).mean(),
        )
        loader = DataLoader(
            [torch.randn(n + 1, 3) for n in range(4)],
            batch_size=2,
            collate_fn=lambda batch, layout=layout: torch.nested.nested_tensor(batch, layout=layout),
        )
        assert len(list(loader)) == 2


def sparse() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.EmbeddingBag(5, 3, sparse=True)

        def forward(self, x: Tensor) -> Tensor:
            return torch.sparse.mm(x, self.table(torch.arange(5)[:, None]))

    for layout in (torch.sparse_coo, torch.sparse_csr):
        fit(Net(), lambda layout=layout: torch.eye(5).to_sparse(layout=layout))


def without_bytes() -> None:
    net = nn.Linear(3, 3, device="meta")
    fit(net, lambda: torch.empty(2, 3, device="meta"))


class Wrapping(Tensor):
    """A tensor that has no bytes of its own."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> Self:
        return Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype, requires_grad=inner.requires_grad)

    def __init__(self, inner: Tensor) -> None:
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args, kwargs = tree_map(lambda x: x.inner if isinstance(x, cls) else x, (args, kwargs or {}))
        return tree_map(lambda x: cls(x) if isinstance(x, Tensor) else x, function(*args, **kwargs))


def wrapped_weights() -> None:
    net = nn.Linear(3, 2)
    net.weight = nn.Parameter(Wrapping(torch.randn(2, 3)))
    fit(net, lambda: torch.randn(4, 3))
    fit(nn.Linear(3, 2), lambda: Wrapping(torch.randn(4, 3)))


def small_dtypes() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 2)
            self.register_buffer("scale", torch.ones(4).to(torch.float8_e5m2))
            self.register_buffer("empty", torch.empty(0))

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x.float())

    for dtype in (torch.float8_e4m3fn, torch.uint16, torch.uint64, torch.bool):
        fit(Net(), lambda dtype=dtype: torch.ones(4, 3).to(dtype))
        assert list(DataLoader([torch.ones(3).to(dtype)], batch_size=None))
    torch.save(Net().state_dict(), io.BytesIO())


@dataclasses.dataclass
class Output:
    logits: Tensor

    def __bool__(self) -> bool:
        raise RuntimeError("no truth")

    def __len__(self) -> int:
        raise RuntimeError("no length")


def odd_outputs() -> None:
    shapes: tuple[Callable[[Tensor], Any], ...] = (
        Output,
        lambda x: x.detach().numpy(),
        lambda _: None,
        lambda x: (part for part in [x]),
        lambda x: {("a", 1): x},
    )
    for shape in shapes:

        class Net(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layer = nn.Linear(3, 2)

            def forward(self, *, x: Tensor, shape: Any = shape) -> Any:
                self.last = self.layer(x)
                return shape(self.last)

        net = Net()
        for _ in range(2):
            net(x=torch.randn(2, 3))
            net.last.sum().backward()


class Incomparable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no equality")

    def __bool__(self) -> bool:
        raise RuntimeError("no truth")

    def __len__(self) -> int:
        return 0

    __hash__ = nn.Module.__hash__

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


def modules_without_equality() -> None:
    for _ in range(2):
        fit(Incomparable(), lambda: torch.randn(2, 3))
        fit(nn.Sequential(Incomparable()), lambda: torch.randn(2, 3))


def scripted() -> None:
    fit(torch.jit.script(nn.Sequential(nn.Linear(3, 1))), lambda: torch.randn(2, 3))
    torch.export.export(nn.Linear(3, 1), (torch.randn(2, 3),)).module()(torch.randn(2, 3))


class Batch:
    def __init__(self, parts: list[Any]) -> None:
        self.__dict__["parts"] = parts

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)

    __bool__ = __eq__ = __len__ = __iter__ = __getattr__  # type: ignore[assignment]
    __hash__ = None  # type: ignore[assignment]


def odd_data() -> None:
    class Endless(Dataset[Tensor]):
        def __len__(self) -> int:
            raise RuntimeError("no length")

        def __getitem__(self, place: int) -> Tensor:
            return torch.ones(2)

    class Stream(IterableDataset[Tensor]):
        def __len__(self) -> int:
            return 1  # fewer than there are: torch warns of that only when somebody asked

        def __iter__(self) -> Any:
            return iter([torch.ones(1)] * 3)

    assert len(list(DataLoader(Endless(), batch_sampler=[[0, 1], [2]]))) == 2
    assert len(list(DataLoader([1, 2, 3, 4], batch_size=2, collate_fn=Batch))) == 2
    assert len(list(DataLoader(np.zeros((4, 2)), sampler=(place for place in (2, 0))))) == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(list(DataLoader(Stream(), batch_size=1))) == 3


def threads() -> None:
    def train() -> None:
        fit(
            nn.Linear(3, 1),
            lambda: torch.ones(2, 3),
            lambda out: nn.functional.mse_loss(out, torch.zeros(2, 1)),
        )
        torch.save({"weight": torch.ones(1)}, io.BytesIO())

    together = [threading.Thread(target=train) for _ in range(4)]
    for thread in together:
        thread.start()
    for thread in together:
        thread.join()


CASES = (
    conjugated, ragged, sparse, without_bytes, wrapped_weights, small_dtypes, odd_outputs, modules_without_equality,
    scripted, odd_data, threads,
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
@pytest.mark.filterwarnings("ignore")
def test_no_observer_fails(case: Callable[[], None], tmp_path: Path) -> None:
    torch.manual_seed(0)
    _, trace = watched(case, tmp_path)
    assert [event["error"] for event in trace.events("observer_error", role=None)] == []


def test_threads_do_not_hide_each_others_losses(tmp_path: Path) -> None:
    _, trace = watched(threads, tmp_path)
    assert len(trace.events("loss")) == 8


def test_a_trainer_that_closes_all_files_goes_on_and_keeps_its_own(tmp_path: Path) -> None:
    own = tmp_path / "own.txt"

    def trainer(closed: int) -> None:
        fit(nn.Linear(3, 1), lambda: torch.ones(2, 3))
        with own.open("w") as file:
            os.dup2(file.fileno(), closed)  # as if it had closed all files, and opened its own under that number
            fit(nn.Linear(3, 1), lambda: torch.ones(2, 3))
            file.write("mine")

    from pytest_brainbrr.observers import install
    from pytest_brainbrr.trace import Trace

    watch = install(tmp_path / "trace", tmp_path)
    try:
        number = watch._file
        assert number is not None
        trainer(number)
    finally:
        watch.close()
    os.close(number)  # still open: it is the trainer's
    assert own.read_text() == "mine"
    assert len(Trace.read(tmp_path / "trace").steps) == 4


def test_gradients_that_only_another_thread_writes_are_left_alone(tmp_path: Path) -> None:
    """Looked at while that thread's backward writes them, they end the process."""
    from pytest_brainbrr.observers import install
    from pytest_brainbrr.observers.models import Models

    watch = install(tmp_path / "trace", tmp_path)
    try:
        models = Models(watch)
        nets = [nn.Linear(2, 1) for _ in range(2)]
        shared = nn.Linear(2, 1)

        def train(net: nn.Module) -> None:
            models.know(net, "called")
            models.know(shared, "called")
            models.trains_here()

        train(nets[0])
        assert models.elsewhere() == set()
        held = threading.Event()
        other = threading.Thread(target=lambda: (train(nets[1]), held.wait()), daemon=True)
        other.start()
        while len(models.elsewhere()) < 2:
            pass
        assert models.elsewhere() == {id(parameter) for parameter in nets[1].parameters()}
        assert not {id(tensor) for _, tensor in models.trainable()} & models.elsewhere()
        held.set()
        other.join()
    finally:
        watch.close()
