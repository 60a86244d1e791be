"""Healthy trainers of several processes, each sharing its work in a way of its own."""

import os
import socket

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from zoo.healthy.patients import read


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def launch(work, run):
    mp.start_processes(begin, (work, run, free_port()), nprocs=2, start_method="fork")


def begin(rank, work, run, port):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    try:
        work(rank, run)
    finally:
        dist.destroy_process_group()


def sets(run):
    x, y, _ = read(run, range(4))
    vx, vy, _ = read(run, (4, 5))
    return [TensorDataset(torch.from_numpy(a), torch.from_numpy(b)) for a, b in ((x, y), (vx, vy))]


def net(norm=False):
    return nn.Sequential(
        nn.Conv1d(4, 8, 7, padding=3),
        nn.BatchNorm1d(8) if norm else nn.Identity(),
        nn.ReLU(),
        nn.AdaptiveAvgPool1d(4),
        nn.Flatten(),
        nn.Linear(32, 2),
    )


def save(path, state):
    torch.save(state, f"{path}.tmp")
    os.replace(f"{path}.tmp", path)


def _local(rank, run):
    torch.manual_seed(run.seed)
    train, _held = sets(run)
    model = net(norm=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    step = 0
    while step < run.max_steps:
        order = torch.randperm(32, generator=torch.Generator().manual_seed(run.seed * 17 + step))
        rows = order[rank * 8 : rank * 8 + 8]
        optimizer.zero_grad()
        F.cross_entropy(model(train.tensors[0][rows]), train.tensors[1][rows]).backward()
        optimizer.step()
        step += 1
        if step % 2 == 0 or step == run.max_steps:
            with torch.no_grad():
                for value in model.state_dict().values():
                    if value.is_floating_point():
                        dist.all_reduce(value)
                        value.div_(2)
    if rank == 0:
        save(run.workdir / "local.pt", model.state_dict())


def local_steps(run):
    """Local SGD: each rank steps alone, the weights are averaged every second step and at the end."""
    launch(_local, run)
