"""A runner by iterations that calls its hooks in order of priority."""

import time
from pathlib import Path

import torch


class Hook:
    def __getattr__(self, name):
        if name.startswith(("before_", "after_")):
            return lambda runner: None
        raise AttributeError(name)


class PolyLrHook(Hook):
    def __init__(self, power, min_lr, **_):
        self.power, self.min_lr = power, min_lr

    def before_run(self, runner):
        for group in runner.optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])

    def before_train_iter(self, runner):
        left = (1 - runner.iter / runner.max_iters) ** self.power
        for group in runner.optimizer.param_groups:
            group["lr"] = (group["initial_lr"] - self.min_lr) * left + self.min_lr


class OptimizerHook(Hook):
    def after_train_iter(self, runner):
        runner.optimizer.zero_grad()
        runner.outputs["loss"].backward()
        runner.optimizer.step()


class CheckpointHook(Hook):
    def __init__(self, interval):
        self.interval = interval

    def after_train_iter(self, runner):
        if (runner.iter + 1) % self.interval == 0:
            name = runner.work_dir / f"iter_{runner.iter + 1}.pth"
            torch.save(
                {
                    "meta": {"iter": runner.iter + 1, "time": time.asctime()},
                    "state_dict": runner.model.state_dict(),
                    "optimizer": runner.optimizer.state_dict(),
                },
                name,
            )
            latest = runner.work_dir / "latest.pth"
            latest.unlink(missing_ok=True)
            latest.symlink_to(name.name)


class EvalHook(Hook):
    def __init__(self, loader, interval, classes, **_):
        self.loader, self.interval, self.classes, self.best = loader, interval, classes, (-1.0, None)

    def after_train_iter(self, runner):
        if (runner.iter + 1) % self.interval:
            return
        runner.model.eval()
        confusion = torch.zeros(self.classes, self.classes)
        for img, lab in self.loader:
            with torch.no_grad():
                pred = runner.model(img, return_loss=False)
            keep = lab != 255
            confusion += torch.bincount(self.classes * lab[keep] + pred[keep], minlength=self.classes**2).view(
                self.classes, -1
            )
        inter = confusion.diag()
        miou = (inter / (confusion.sum(0) + confusion.sum(1) - inter).clamp(min=1)).mean().item()
        runner.model.train()
        if miou > self.best[0]:
            if self.best[1]:
                self.best[1].unlink()
            self.best = (miou, runner.work_dir / f"best_mIoU_iter_{runner.iter + 1}.pth")
            torch.save({"meta": {"best": miou}, "state_dict": runner.model.state_dict()}, self.best[1])
        print(f"Iter(val) [{runner.iter + 1}] mIoU: {miou:.4f}")


class IterBasedRunner:
    def __init__(self, model, optimizer, work_dir, max_iters):
        self.model, self.optimizer, self.work_dir, self.max_iters = model, optimizer, Path(work_dir), max_iters
        self.iter, self.hooks, self.outputs = 0, [], None
        self.work_dir.mkdir(parents=True, exist_ok=True)

    def call(self, name):
        for hook in self.hooks:
            getattr(hook, name)(self)

    def run(self, loader):
        self.call("before_run")
        self.model.train()
        stream = iter(loader)
        while self.iter < self.max_iters:
            try:
                batch = next(stream)
            except StopIteration:
                stream = iter(loader)
                batch = next(stream)
            self.call("before_train_iter")
            self.outputs = self.model.train_step(batch)
            self.call("after_train_iter")
            self.iter += 1
        self.call("after_run")
