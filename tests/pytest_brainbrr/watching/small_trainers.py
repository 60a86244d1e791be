"""Trainers for whole runs in fresh processes, with switches for faults. Imported by the child under its own name."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any


def resumable(run: Any, fault: str = "") -> None:  # noqa: C901 (a whole trainer, with switches)
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.head = nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4), nn.Linear(4, 1)
            self.shift = 0.0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.norm(self.conv(x)).mean(-1)).squeeze(-1) + self.shift

    torch.manual_seed(run.seed)
    net = Net()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 100)
    step = 0
    if run.resume_from is not None:
        saved = torch.load(run.resume_from, weights_only=True)
        net.load_state_dict(saved["model"], strict=fault not in {"prefix", "buffers"})
        if "optimizer" in saved:
            optimizer.load_state_dict(saved["optimizer"])
        if "schedule" in saved:
            schedule.load_state_dict(saved["schedule"])
        step = saved["step"]
    x = torch.randn(24, 3, 16, generator=torch.Generator().manual_seed(1))
    loader = DataLoader(TensorDataset(x, (x.mean((1, 2)) > 0).float()), 8)
    while step < run.max_steps:
        for signal_, label in loader:
            net.train()
            optimizer.zero_grad()
            nn.functional.binary_cross_entropy_with_logits(net(signal_), label).backward()
            optimizer.step()
            schedule.step()
            step += 1
            if fault == "attribute":
                net.shift += 0.5
            if step % 3 == 0:
                state = {
                    "model": net.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "schedule": schedule.state_dict(),
                }
                if fault == "prefix":
                    state["model"] = {f"module.{key}": value for key, value in state["model"].items()}
                if fault == "buffers":
                    state["model"] = dict(net.named_parameters())
                state.pop(fault, None)
                torch.save({**state, "step": step}, run.workdir / f"step-{step}.pt")
            if step >= run.max_steps:
                break


def endless(run: Any) -> None:
    """Ignore max_steps; validate and save after every third step."""
    import torch
    from torch import nn

    net = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for step in range(1, 1000):
        optimizer.zero_grad()
        net(torch.ones(2, 3)).sum().backward()
        optimizer.step()
        if step % 3 == 0:
            with torch.no_grad():
                net(torch.zeros(2, 3))
            torch.save(net.state_dict(), run.workdir / f"{step}.pt")


def one_rank(rank: int, run: Any) -> None:
    import torch
    from torch import nn

    torch.distributed.init_process_group("gloo", init_method=f"file://{run.workdir / 'meet'}", rank=rank, world_size=2)
    torch.manual_seed(0)
    net = nn.parallel.DistributedDataParallel(nn.Linear(3, 1))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(100):
        optimizer.zero_grad()
        net(torch.full((2, 3), float(rank))).sum().backward()
        optimizer.step()


def in_two_ranks(run: Any, start: str) -> None:
    """Train until stopped: every rank by its own step limit."""
    import torch.multiprocessing

    torch.multiprocessing.start_processes(one_rank, (run,), nprocs=2, start_method=start)


def returning(run: Any) -> int:
    print("a last word")
    return 7


def raising(run: Any) -> None:
    raise ValueError("no such file: x.edf")


def leaving(run: Any) -> None:
    sys.exit(3)


def leaving_with_words(run: Any) -> None:
    sys.exit("[FATAL] nothing to do")


def interrupted(run: Any) -> None:
    raise KeyboardInterrupt


def killed(run: Any) -> None:
    print("before the end", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def sleeping(run: Any) -> None:
    print("still here", flush=True)
    time.sleep(60)


def reading(run: Any) -> None:
    """Fail unless prepare laid out the file that it should."""
    assert (run.workdir / "data.txt").read_text() == run.data
    import torch

    net = torch.nn.Linear(1, 1)
    torch.optim.SGD(net.parameters(), lr=0.1)
    net(torch.ones(1, 1)).sum().backward()


def prepare(run: Any) -> None:
    import torch

    torch.save({"weights": torch.ones(3)}, run.workdir / "input.pt")
    (run.workdir / "data.txt").write_text(run.data)


def folder_of(run: Any) -> Path:
    return Path(run.workdir)


def long_passes(run: Any, *, thread: bool = False) -> None:
    """Ignore max_steps; validate and save after each pass over 100 batches, which a thread may read ahead."""
    import queue
    import threading

    import torch
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset

    torch.manual_seed(run.seed)
    loader = DataLoader(TensorDataset(torch.randn(200, 3)), 2, shuffle=True)
    held_out = DataLoader(TensorDataset(torch.randn(40, 3)), 2)
    net = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    box: queue.Queue[Any] = queue.Queue(2)

    def read() -> None:
        for batch in loader:
            box.put(batch)

    for epoch in range(3):
        if thread:
            threading.Thread(target=read, daemon=True).start()
        for x in (box.get()[0] for _ in range(100)) if thread else (batch[0] for batch in loader):
            optimizer.zero_grad()
            net(x).square().mean().backward()
            optimizer.step()
        with torch.no_grad():
            print(epoch, len(loader), sum(float(net(x).sum()) for (x,) in held_out))
        torch.save(net.state_dict(), run.workdir / f"{epoch}.pt")
