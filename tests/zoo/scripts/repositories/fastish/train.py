"""A learner in the manner of fastai: a rate finder that trains and puts everything back, then one cycle of rate and momentum, in a frozen and an unfrozen stage."""

from functools import partial
from math import cos, pi
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn, optim
from torch.utils.data import DataLoader

path = Path(__file__).resolve().parent


class CancelFitException(Exception):
    pass


class Callback:
    order, learn = 0, None

    def __getattr__(self, k):
        return getattr(self.learn, k)

    def __call__(self, name):
        f = self.__dict__.get(name) or type(self).__dict__.get(name)
        if f:
            f(self)


class ParamScheduler(Callback):
    order = 60

    def __init__(self, scheds):
        self.scheds = scheds

    def before_batch(self):
        if self.training:
            for name, f in self.scheds.items():
                for h in self.opt.param_groups:
                    value = f(self.pct_train)
                    h[name] = value * h.get("mult", 1.0) if name == "lr" else (value, h["betas"][1])


class LRFinder(Callback):
    order = 61

    def __init__(self, start_lr=1e-6, end_lr=1.0, num_it=3, stop_div=True):
        self.start_lr, self.end_lr, self.num_it, self.stop_div = start_lr, end_lr, num_it, stop_div

    def before_fit(self):
        self.learn.save("_tmp")
        self.best_loss, self.lrs, self.losses = float("inf"), [], []

    def before_batch(self):
        lr = self.start_lr * (self.end_lr / self.start_lr) ** (self.train_iter / self.num_it)
        for h in self.opt.param_groups:
            h["lr"] = lr

    def after_batch(self):
        self.lrs.append(self.opt.param_groups[0]["lr"])
        self.losses.append(self.loss.item())
        if self.losses[-1] < self.best_loss:
            self.best_loss = self.losses[-1]
        if (self.losses[-1] > 4 * self.best_loss and self.stop_div) or self.train_iter >= self.num_it - 1:
            raise CancelFitException

    def after_fit(self):
        self.opt.zero_grad()
        self.learn.load("_tmp")
        (path / "models" / "_tmp.pth").unlink()


class Recorder(Callback):
    order = 50

    def after_batch(self):
        if self.training:
            self.recorder["loss"].append(float(self.loss.detach()))

    def after_epoch(self):
        print(
            "  ".join(
                f"{v:.4f}" for v in (self.epoch, sum(self.recorder["loss"]) / len(self.recorder["loss"]), *self.valid)
            )
        )


class SaveModel(Callback):
    order = 51

    def before_fit(self):
        self.best = None

    def after_epoch(self):
        if self.best is None or self.valid[0] < self.best:
            self.best = self.valid[0]
            self.learn.save("model")

    def after_fit(self):
        if self.best is not None:
            self.learn.load("model", with_opt=False)


class Learner:
    def __init__(self, dls, model, loss_func, splitter, lr=1e-3):
        self.dls, self.model, self.loss_func, self.splitter, self.lr = dls, model, loss_func, splitter, lr
        self.opt, self.recorder = None, {"loss": []}
        (path / "models").mkdir(exist_ok=True)

    def create_opt(self):
        groups = self.splitter(self.model)
        self.opt = optim.Adam(
            [
                {"params": list(g), "mult": m}
                for g, m in zip(groups, torch.logspace(-1, 0, len(groups)).tolist(), strict=True)
            ],
            lr=self.lr,
            betas=(0.95, 0.99),
            eps=1e-5,
        )

    def freeze(self):
        for m in self.model[0].modules():
            for p in m.parameters(recurse=False):
                p.requires_grad_(isinstance(m, nn.BatchNorm2d))

    def unfreeze(self):
        for p in self.model.parameters():
            p.requires_grad_(True)

    def save(self, file, with_opt=True):
        state = {"model": self.model.state_dict()} | ({"opt": self.opt.state_dict()} if with_opt else {})
        torch.save(state, path / "models" / f"{file}.pth")

    def load(self, file, with_opt=True):
        state = torch.load(path / "models" / f"{file}.pth")
        self.model.load_state_dict(state["model"])
        if with_opt:
            self.opt.load_state_dict(state["opt"])

    def __call__(self, event):
        for cb in sorted(self.cbs, key=lambda cb: cb.order):
            cb(event)

    def one_batch(self, batch):
        self.xb, self.yb = batch
        self("before_batch")
        self.pred = self.model(self.xb)
        self.loss = self.loss_func(self.pred, self.yb)
        if self.training:
            self.loss.backward()
            self.opt.step()
            self.opt.zero_grad()
            self.train_iter += 1
        self("after_batch")

    def validate(self):
        self.training = False
        self.model.eval()
        losses, right, n = 0.0, 0, 0
        with torch.no_grad():
            for batch in self.dls[1]:
                self.one_batch(batch)
                losses, right, n = (
                    losses + self.loss.item() * len(self.yb),
                    right + (self.pred.argmax(1) == self.yb).sum().item(),
                    n + len(self.yb),
                )
        self.valid = losses / n, right / n

    def fit(self, n_epoch, cbs=(), reset_opt=False):
        self.cbs = list(cbs)
        for cb in self.cbs:
            cb.learn = self
        if reset_opt or self.opt is None:
            self.create_opt()
        self.train_iter, self.n_epoch = 0, n_epoch
        try:
            self("before_fit")
            for self.epoch in range(n_epoch):
                self.training = True
                self.model.train()
                for i, batch in enumerate(self.dls[0]):
                    self.pct_train = (self.epoch + i / len(self.dls[0])) / n_epoch
                    self.one_batch(batch)
                self.validate()
                self("after_epoch")
        except CancelFitException:
            pass
        finally:
            self("after_fit")

    def fit_one_cycle(self, n_epoch, lr_max, pct_start=0.25, cbs=()):
        def cycle(a, b, c, pct):
            x, lo, hi = (pct / pct_start, a, b) if pct < pct_start else ((pct - pct_start) / (1 - pct_start), b, c)
            return lo + (1 - cos(pi * x)) * (hi - lo) / 2

        scheds = {"lr": partial(cycle, lr_max / 25, lr_max, lr_max / 1e5), "betas": partial(cycle, 0.95, 0.85, 0.95)}
        self.fit(n_epoch, cbs=[ParamScheduler(scheds), Recorder(), *cbs], reset_opt=True)

    def lr_find(self):
        finder = LRFinder()
        self.fit(2, cbs=[finder])
        return finder.lrs[min(range(len(finder.losses)), key=finder.losses.__getitem__)] / 10


class LabelSmoothingCE(nn.Module):
    def forward(self, pred, target):
        return F.cross_entropy(pred, target, label_smoothing=0.1)


def digits(n, seed):
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(0, 3, (n,), generator=g)
    x = 0.3 * torch.randn(n, 1, 8, 8, generator=g)
    for im, label in zip(x, y.tolist(), strict=True):
        im[0, :, 2 * label : 2 * label + 3] += 1
    return list(zip(x, y, strict=True))


if __name__ == "__main__":
    torch.manual_seed(11)
    dls = DataLoader(digits(48, 0), 8, shuffle=True, drop_last=True), DataLoader(digits(24, 1), 16)
    body = nn.Sequential(
        nn.Conv2d(1, 8, 3, 2, 1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(True),
        nn.Conv2d(8, 16, 3, 2, 1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(True),
    )
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.1), nn.Linear(16, 3))
    learn = Learner(
        dls, nn.Sequential(body, head), LabelSmoothingCE(), lambda m: (m[0].parameters(), m[1].parameters())
    )
    learn.freeze()
    learn.create_opt()
    lr = learn.lr_find()
    learn.fit_one_cycle(1, max(lr, 1e-3))
    learn.unfreeze()
    learn.fit_one_cycle(2, max(lr, 1e-3) / 2, cbs=[SaveModel()])
    learn.save("final", with_opt=False)
