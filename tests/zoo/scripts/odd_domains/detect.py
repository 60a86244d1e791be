"""One-stage detector with anchors: varying boxes per image, collate_fn, smooth L1 + focal loss."""

import math

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

GRID, STRIDE, SIZES = 8, 4, (6.0, 12.0)


def anchors():
    c = (torch.arange(GRID) + 0.5) * STRIDE
    cy, cx = torch.meshgrid(c, c, indexing="ij")
    out = [torch.stack([cx - s / 2, cy - s / 2, cx + s / 2, cy + s / 2], -1) for s in SIZES]
    return torch.stack(out, 2).reshape(-1, 4)


def iou(a, b):
    lt = torch.maximum(a[:, None, :2], b[None, :, :2])
    rb = torch.minimum(a[:, None, 2:], b[None, :, 2:])
    i = (rb - lt).clamp(min=0).prod(-1)
    area = lambda x: (x[:, 2:] - x[:, :2]).prod(-1)
    return i / (area(a)[:, None] + area(b)[None] - i)


def encode(anc, box):
    aw = anc[:, 2:] - anc[:, :2]
    ac = (anc[:, :2] + anc[:, 2:]) / 2
    bw = box[:, 2:] - box[:, :2]
    bc = (box[:, :2] + box[:, 2:]) / 2
    return torch.cat([(bc - ac) / aw, (bw / aw).log()], 1)


class Boxes(Dataset):
    def __init__(self, n, seed):
        g = torch.Generator().manual_seed(seed)
        self.items = []
        for _ in range(n):
            img = torch.rand(1, 32, 32, generator=g) * 0.3
            boxes, labels = [], []
            for _ in range(int(torch.randint(1, 4, (1,), generator=g))):
                s = [6, 12][int(torch.randint(0, 2, (1,), generator=g))]
                x, y = (int(v) for v in torch.randint(0, 32 - s, (2,), generator=g))
                lab = int(torch.randint(0, 2, (1,), generator=g))
                img[0, y : y + s, x : x + s] += 0.5 + 0.4 * lab
                boxes.append([x, y, x + s, y + s])
                labels.append(lab)
            self.items.append((img, {"boxes": torch.tensor(boxes, dtype=torch.float), "labels": torch.tensor(labels)}))

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


def collate(batch):
    return torch.stack([b[0] for b in batch]), [b[1] for b in batch]


class Detector(nn.Module):
    def __init__(self, classes=2):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 16, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(32, 32, 3, 1, 1),
            nn.ReLU(),
        )
        k = len(SIZES)
        self.cls, self.reg = nn.Conv2d(32, k * classes, 3, 1, 1), nn.Conv2d(32, k * 4, 3, 1, 1)
        nn.init.constant_(self.cls.bias, -math.log(99.0))
        nn.init.normal_(self.cls.weight, std=0.01)
        self.register_buffer("anchors", anchors())
        self.k, self.c = k, classes

    def forward(self, x):
        f = self.body(x)
        n = len(x)
        return (
            self.cls(f).view(n, self.k, self.c, GRID, GRID).permute(0, 3, 4, 1, 2).reshape(n, -1, self.c),
            self.reg(f).view(n, self.k, 4, GRID, GRID).permute(0, 3, 4, 1, 2).reshape(n, -1, 4),
        )


def loss_fn(model, images, targets):
    logits, deltas = model(images)
    total_c = total_r = 0.0
    npos = 0
    for lg, dl, t in zip(logits, deltas, targets):
        m = iou(model.anchors, t["boxes"])
        best, idx = m.max(1)
        best[m.argmax(0)] = 1.0
        idx[m.argmax(0)] = torch.arange(len(t["boxes"]))
        pos, ignore = best >= 0.5, (best >= 0.4) & (best < 0.5)
        tgt = torch.zeros_like(lg)
        tgt[pos, t["labels"][idx[pos]]] = 1.0
        p = lg.sigmoid()
        ce = F.binary_cross_entropy_with_logits(lg, tgt, reduction="none")
        focal = (0.25 * tgt + 0.75 * (1 - tgt)) * (1 - (p * tgt + (1 - p) * (1 - tgt))) ** 2 * ce
        total_c = total_c + focal[~ignore].sum()
        total_r = total_r + F.smooth_l1_loss(dl[pos], encode(model.anchors[pos], t["boxes"][idx[pos]]), reduction="sum")
        npos += int(pos.sum())
    return total_c / max(npos, 1), total_r / max(npos, 1)


def main(epochs=3):
    torch.manual_seed(11)
    train, val = Boxes(32, 0), Boxes(24, 1)
    tl = DataLoader(train, 8, True, collate_fn=collate)
    vl = DataLoader(val, 8, collate_fn=collate)
    model = Detector()
    opt = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    warm = torch.optim.lr_scheduler.LinearLR(opt, 0.01, total_iters=8)
    for ep in range(epochs):
        model.train()
        for images, targets in tl:
            c, r = loss_fn(model, images, targets)
            loss = c + r
            if not math.isfinite(loss.item()):
                raise SystemExit("loss is not finite")
            opt.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 10.0)
            opt.step()
            warm.step()
        model.eval()
        s = 0.0
        with torch.no_grad():
            for images, targets in vl:
                s += float(sum(loss_fn(model, images, targets)))
        print("epoch", ep, "val", s / len(vl))
    torch.save(model, "detector.pkl")


main()
