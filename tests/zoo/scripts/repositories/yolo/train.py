"""Grid detector trained as YOLO is: warm-up by interpolation, accumulation that grows, groups, an average, half-precision files."""

import math
import random
import time
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
import torch.nn as nn
import yaml
from torch import optim
from torch.optim import lr_scheduler

FILE = Path(__file__).resolve()
ROOT = FILE.parents[0]


class Conv(nn.Module):
    def __init__(self, c1, c2, k=3, s=1):
        super().__init__()
        self.conv, self.bn, self.act = (
            nn.Conv2d(c1, c2, k, s, k // 2, bias=False),
            nn.BatchNorm2d(c2, eps=1e-3, momentum=0.03),
            nn.SiLU(inplace=True),
        )

    def forward(self, x):
        return self.act(self.bn(self.conv(x)))


class Detect(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.m = nn.Conv2d(c, 5, 1)
        with torch.no_grad():
            self.m.bias[4] = math.log(1 / 15)
        self.stride = 4
        self.register_buffer(
            "grid", torch.stack(torch.meshgrid(torch.arange(4), torch.arange(4), indexing="xy")).float()[None]
        )

    def forward(self, x):
        p = self.m(x)
        if self.training:
            return p
        xy = (p[:, :2].sigmoid() * 2 - 0.5 + self.grid) * self.stride
        wh = (p[:, 2:4].sigmoid() * 2) ** 2 * self.stride
        return torch.cat((xy, wh, p[:, 4:].sigmoid()), 1), p


class ModelEMA:
    def __init__(self, model, decay=0.9999, tau=20, updates=0):
        self.ema, self.updates = deepcopy(model).eval(), updates
        self.decay = lambda x: decay * (1 - math.exp(-x / tau))
        for p in self.ema.parameters():
            p.requires_grad_(False)

    def update(self, model):
        self.updates += 1
        d = self.decay(self.updates)
        msd = model.state_dict()
        for k, v in self.ema.state_dict().items():
            if v.dtype.is_floating_point:
                v *= d
                v += (1 - d) * msd[k].detach()


def make_images(folder, count, seed):
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for i in range(count):
        img = rng.integers(90, 130, (16, 16)).astype(np.uint8)
        boxes = []
        for _ in range(rng.integers(0, 3)):
            w, h = rng.integers(3, 7, 2)
            x, y = rng.integers(0, 16 - w), rng.integers(0, 16 - h)
            img[y : y + h, x : x + w] = 230
            boxes.append([0, (x + w / 2) / 16, (y + h / 2) / 16, w / 16, h / 16])
        np.save(folder / f"{i:03d}.npy", img)
        (folder / f"{i:03d}.txt").write_text("\n".join(" ".join(f"{v:.6f}" for v in b) for b in boxes))


class LoadImagesAndLabels(torch.utils.data.Dataset):
    def __init__(self, path, augment):
        self.files, self.augment = sorted(Path(path).glob("*.npy")), augment

    def __len__(self):
        return len(self.files)

    def __getitem__(self, i):
        img = np.load(self.files[i])
        text = self.files[i].with_suffix(".txt").read_text().split()
        labels = np.array(text, dtype=np.float32).reshape(-1, 5)
        if self.augment and random.random() < 0.5:
            img, labels[:, 1] = np.fliplr(img), 1 - labels[:, 1]
        out = torch.zeros((len(labels), 6))
        out[:, 1:] = torch.from_numpy(labels)
        return torch.from_numpy(np.ascontiguousarray(img))[None], out

    @staticmethod
    def collate_fn(batch):
        img, label = zip(*batch, strict=True)
        for i, lb in enumerate(label):
            lb[:, 0] = i
        return torch.stack(img, 0), torch.cat(label, 0)


def compute_loss(p, targets, hyp):
    box, tobj = torch.zeros(1), torch.zeros(p.shape[0], 4, 4)
    if len(targets):
        b, gxy, gwh = targets[:, 0].long(), targets[:, 2:4] * 4, targets[:, 4:6] * 4
        gij = gxy.long().clamp(0, 3)
        ps = p[b, :, gij[:, 1], gij[:, 0]]
        pxy, pwh = ps[:, :2].sigmoid() * 2 - 0.5, (ps[:, 2:4].sigmoid() * 2) ** 2
        lo, hi = torch.max(pxy - pwh / 2, gxy - gij - gwh / 2), torch.min(pxy + pwh / 2, gxy - gij + gwh / 2)
        inter = (hi - lo).clamp(0).prod(1)
        iou = inter / (pwh.prod(1) + gwh.prod(1) - inter + 1e-7)
        box = box + (1 - iou).mean()
        tobj[b, gij[:, 1], gij[:, 0]] = iou.detach().clamp(0)
    obj = nn.functional.binary_cross_entropy_with_logits(p[:, 4], tobj)
    return (hyp["box"] * box + hyp["obj"] * obj) * p.shape[0], torch.cat((box, obj[None])).detach()


def strip_optimizer(f):
    x = torch.load(f, map_location="cpu", weights_only=False)
    x["model"], x["optimizer"], x["ema"] = x["ema"], None, None
    x["model"].half()
    torch.save(x, f)


def smart_optimizer(model, hyp):
    g = [], [], []
    for m in model.modules():
        for name, p in m.named_parameters(recurse=False):
            if name == "bias":
                g[2].append(p)
            elif name == "weight" and isinstance(m, nn.BatchNorm2d):
                g[1].append(p)
            else:
                g[0].append(p)
    optimizer = optim.SGD(g[2], lr=hyp["lr0"], momentum=hyp["momentum"], nesterov=True)
    optimizer.add_param_group({"params": g[0], "weight_decay": hyp["weight_decay"]})
    optimizer.add_param_group({"params": g[1], "weight_decay": 0.0})
    return optimizer


@torch.no_grad()
def val(model, loader, hyp):
    seen, recall, loss = 0, 0, torch.zeros(2)
    half = next(model.parameters()).dtype == torch.half
    for im, targets in loader:
        im = (im.half() if half else im.float()) / 255
        (out, p) = model(im)
        loss += compute_loss(p.float(), targets, hyp)[1]
        hit = out[:, 4].flatten(1) > 0.3
        recall += int(hit.any(1).sum())
        seen += len(im)
    return recall / seen, (loss / len(loader)).tolist()


def main():
    hyp = yaml.safe_load((ROOT / "cfg" / "hyp.yaml").read_text())
    random.seed(hyp["seed"])
    np.random.seed(hyp["seed"])
    torch.manual_seed(hyp["seed"])
    data = ROOT / "datasets"
    if not data.exists():
        make_images(data / "train", 44, 1)
        make_images(data / "val", 12, 2)
    save_dir = ROOT / "runs" / "train" / f"exp{len(list((ROOT / 'runs' / 'train').glob('exp*'))) + 1}"
    (save_dir / "weights").mkdir(parents=True)
    last, best = save_dir / "weights" / "last.pt", save_dir / "weights" / "best.pt"
    model = nn.Sequential(Conv(1, 8, 3, 2), Conv(8, 12, 3, 2), Conv(12, 12), Detect(12))
    epochs, batch_size = hyp["epochs"], hyp["batch"]
    accumulate = max(round(hyp["nbs"] / batch_size), 1)
    hyp["weight_decay"] *= batch_size * accumulate / hyp["nbs"]
    optimizer = smart_optimizer(model, hyp)
    lf = lambda x: (1 - x / epochs) * (1.0 - hyp["lrf"]) + hyp["lrf"]
    scheduler = lr_scheduler.LambdaLR(optimizer, lr_lambda=lf)
    ema = ModelEMA(model)
    train_set = LoadImagesAndLabels(data / "train", True)
    train_loader = torch.utils.data.DataLoader(train_set, batch_size, shuffle=True, collate_fn=train_set.collate_fn)
    val_loader = torch.utils.data.DataLoader(
        LoadImagesAndLabels(data / "val", False), 6, collate_fn=train_set.collate_fn
    )
    nb = len(train_loader)
    nw = max(round(hyp["warmup_epochs"] * nb), 10)
    last_opt_step, best_fitness, t0 = -1, 0.0, time.time()
    scheduler.last_epoch = -1
    optimizer.zero_grad()
    for epoch in range(epochs):
        model.train()
        mloss = torch.zeros(2)
        for i, (imgs, targets) in enumerate(train_loader):
            ni = i + nb * epoch
            imgs = imgs.float() / 255
            if ni <= nw:
                xi = [0, nw]
                accumulate = max(1, np.interp(ni, xi, [1, hyp["nbs"] / batch_size]).round())
                for j, x in enumerate(optimizer.param_groups):
                    x["lr"] = np.interp(ni, xi, [hyp["warmup_bias_lr"] if j == 0 else 0.0, x["initial_lr"] * lf(epoch)])
                    x["momentum"] = np.interp(ni, xi, [hyp["warmup_momentum"], hyp["momentum"]])
            loss, items = compute_loss(model(imgs), targets, hyp)
            loss.backward()
            if ni - last_opt_step >= accumulate:
                torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=10.0)
                optimizer.step()
                optimizer.zero_grad()
                ema.update(model)
                last_opt_step = ni
            mloss = (mloss * i + items) / (i + 1)
        scheduler.step()
        recall, vloss = val(deepcopy(ema.ema).half().float(), val_loader, hyp)
        fitness = recall - 0.01 * sum(vloss)
        best_fitness = max(best_fitness, fitness) if epoch else fitness
        with open(save_dir / "results.csv", "a") as f:
            f.write(f"{epoch}, {mloss[0]:.5g}, {mloss[1]:.5g}, {recall:.5g}, {vloss[0]:.5g}, {time.time() - t0:.3g}\n")
        ckpt = {
            "epoch": epoch,
            "best_fitness": best_fitness,
            "model": deepcopy(model).half(),
            "ema": deepcopy(ema.ema).half(),
            "updates": ema.updates,
            "optimizer": optimizer.state_dict(),
            "opt": hyp,
        }
        torch.save(ckpt, last)
        if best_fitness == fitness:
            torch.save(ckpt, best)
        del ckpt
    for f in last, best:
        strip_optimizer(f)


if __name__ == "__main__":
    main()
