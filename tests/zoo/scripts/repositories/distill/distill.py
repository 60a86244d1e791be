"""A student learns from a teacher that this script trains first; hints from hooked features; both in one process."""

import argparse
import os

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset


def make(n, seed):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 10, generator=g)
    return TensorDataset(x, ((x[:, 0] * x[:, 1] > 0).long() + (x[:, 2] > 0.5).long()))


class MLP(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.features = nn.Sequential(nn.Linear(10, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.classifier = nn.Linear(width, 3)

    def forward(self, x):
        return self.classifier(self.features(x))


class Hints:
    def __init__(self, module):
        self.handle = module.register_forward_hook(self.keep)

    def keep(self, _module, _inputs, output):
        self.value = output

    def close(self):
        self.handle.remove()


def test(model, loader):
    model.eval()
    with torch.no_grad():
        return sum((model(x).argmax(1) == y).sum().item() for x, y in loader) / len(loader.dataset)


def train_teacher(args, loader, test_loader):
    teacher = MLP(32)
    opt = torch.optim.Adam(teacher.parameters(), lr=5e-3)
    for _ in range(args.teacher_epochs):
        teacher.train()
        for x, y in loader:
            opt.zero_grad()
            F.cross_entropy(teacher(x), y).backward()
            opt.step()
    print("teacher", test(teacher, test_loader))
    torch.save(teacher.state_dict(), args.teacher)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--teacher", default="teacher.pt")
    p.add_argument("--teacher-epochs", type=int, default=1)
    p.add_argument("--epochs", type=int, default=3)
    p.add_argument("-T", "--temperature", type=float, default=4.0)
    p.add_argument("--alpha", type=float, default=0.9)
    args = p.parse_args()
    torch.manual_seed(0)
    loader, test_loader = DataLoader(make(96, 1), 32, shuffle=True), DataLoader(make(48, 2), 48)
    if not os.path.exists(args.teacher):
        train_teacher(args, loader, test_loader)
    teacher = MLP(32)
    teacher.load_state_dict(torch.load(args.teacher))
    teacher.eval()
    for param in teacher.parameters():
        param.requires_grad = False
    student, adapt = MLP(8), nn.Linear(8, 32, bias=False)
    hints = Hints(teacher.features), Hints(student.features)
    opt = torch.optim.SGD(list(student.parameters()) + list(adapt.parameters()), lr=0.05, momentum=0.9)
    sched = torch.optim.lr_scheduler.StepLR(opt, 2, 0.1)
    best = 0
    for epoch in range(args.epochs):
        student.train()
        for x, y in loader:
            with torch.no_grad():
                soft = teacher(x)
            out = student(x)
            kd = (
                F.kl_div(
                    F.log_softmax(out / args.temperature, 1),
                    F.softmax(soft / args.temperature, 1),
                    reduction="batchmean",
                )
                * args.temperature**2
            )
            loss = (
                args.alpha * kd
                + (1 - args.alpha) * F.cross_entropy(out, y)
                + 0.1 * F.mse_loss(adapt(hints[1].value), hints[0].value)
            )
            opt.zero_grad()
            loss.backward()
            opt.step()
        sched.step()
        acc = test(student, test_loader)
        print(f"epoch {epoch} lr {sched.get_last_lr()} acc {acc}")
        if acc >= best:
            best = acc
            torch.save(student.state_dict(), "student.pt")
    for hint in hints:
        hint.close()


if __name__ == "__main__":
    main()
