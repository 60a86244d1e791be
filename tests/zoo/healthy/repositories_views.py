"""Self-supervised, semi-supervised and metric learning: two views, two loaders, queues, teachers, miners."""

import copy
import itertools
import math
import random

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler, WeightedRandomSampler

from zoo.healthy.repositories_data import CLASSES, Pictures, accuracy, jitter, pictures, seed_everything
from zoo.healthy.repositories_optimizers import convnet, evaluate


class TwoViews:
    def __init__(self, transform, count=2):
        self.transform, self.count = transform, count

    def __call__(self, x):
        return [self.transform(x) for _ in range(self.count)]


def encoder(features=16):
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, features),
    )


def mlp(width_in, hidden, width_out):
    return nn.Sequential(
        nn.Linear(width_in, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(True), nn.Linear(hidden, width_out)
    )


def simclr(run):
    """sthalles/SimCLR: views stacked, the target is class 0 of rearranged similarities; a linear probe at the end."""
    seed_everything(run.seed)
    backbone, projector = encoder(), mlp(16, 16, 8)
    model = nn.Sequential(backbone, projector)
    loader = DataLoader(Pictures(64, transform=TwoViews(jitter)), batch_size=16, shuffle=True, drop_last=True)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=len(loader), eta_min=0, last_epoch=-1)
    criterion = nn.CrossEntropyLoss()
    n_iter = 0
    for epoch in itertools.count():
        for images, _ in loader:
            features = F.normalize(model(torch.cat(images, dim=0)), dim=1)
            labels = torch.cat([torch.arange(16) for _ in range(2)])
            labels = (labels.unsqueeze(0) == labels.unsqueeze(1)).float()
            similarity = features @ features.T
            mask = torch.eye(32, dtype=torch.bool)
            labels, similarity = labels[~mask].view(32, -1), similarity[~mask].view(32, -1)
            positives, negatives = similarity[labels.bool()].view(32, -1), similarity[~labels.bool()].view(32, -1)
            logits = torch.cat([positives, negatives], dim=1) / 0.07
            loss = criterion(logits, torch.zeros(32, dtype=torch.long))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            n_iter += 1
            if n_iter == run.max_steps:
                break
        if epoch >= 10:
            scheduler.step()
        if n_iter == run.max_steps:
            break
    torch.save(
        {"epoch": epoch, "arch": "tiny", "state_dict": model.state_dict(), "optimizer": optimizer.state_dict()},
        run.workdir / "checkpoint_0001.pth.tar",
    )
    backbone.eval()
    x, y = pictures(64)
    with torch.no_grad():
        h = backbone(x)
    from sklearn.linear_model import LogisticRegression

    print(LogisticRegression(max_iter=50).fit(h.numpy(), y.numpy()).score(h.numpy(), y.numpy()))


def byol(run):
    """lucidrains/byol-pytorch: the net wrapped once on the fly by a hook, target encoder made lazily, moving average."""
    seed_everything(run.seed)

    class Byol(nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net, self.projector, self.predictor = net, mlp(16, 16, 8), mlp(8, 16, 8)
            self.target, self.beta = None, 0.9
            self.hidden = {}
            net[4].register_forward_hook(lambda _, __, out: self.hidden.update(h=out))

        def update_moving_average(self):
            for mine, theirs in zip(
                itertools.chain(self.net.parameters(), self.projector.parameters()),
                self.target.parameters(),
                strict=True,
            ):
                theirs.data = theirs.data * self.beta + (1 - self.beta) * mine.data

        def forward(self, x):
            one, two = jitter(x), jitter(x)
            online = self.projector(self.net(torch.cat((one, two))))
            with torch.no_grad():
                if self.target is None:
                    self.target = nn.Sequential(copy.deepcopy(self.net), copy.deepcopy(self.projector)).requires_grad_(
                        False
                    )
                    self.target[0][4]._forward_hooks.clear()
                first, second = self.target(torch.cat((one, two))).detach().chunk(2)
            a, b = self.predictor(online).chunk(2)
            return (4 - 2 * F.cosine_similarity(a, second) - 2 * F.cosine_similarity(b, first)).mean()

    learner = Byol(encoder())
    optimizer = torch.optim.Adam(learner.parameters(), lr=3e-4)
    x, _ = pictures(64)
    for _ in range(run.max_steps):
        images = x[torch.randint(0, len(x), (20,))]
        loss = learner(images)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        learner.update_moving_average()
    torch.save(learner.net.state_dict(), run.workdir / "improved-net.pt")


def dino(run):
    """DINO: crops of two sizes, centered teacher, weight-normed head with a frozen gain, its first epoch's gradients dropped."""
    seed_everything(run.seed)

    class Head(nn.Module):
        def __init__(self):
            super().__init__()
            self.mlp = mlp(16, 16, 8)
            self.last = nn.utils.parametrizations.weight_norm(nn.Linear(8, 24, bias=False))
            self.last.parametrizations.weight.original0.data.fill_(1)
            self.last.parametrizations.weight.original0.requires_grad = False

        def forward(self, x):
            return self.last(F.normalize(self.mlp(x), dim=-1))

    class Wrapper(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone, self.head = encoder(), Head()

        def forward(self, crops):
            sizes = torch.cumsum(
                torch.unique_consecutive(torch.tensor([c.shape[-1] for c in crops]), return_counts=True)[1], 0
            )
            start, out = 0, []
            for end in sizes.tolist():
                out.append(self.backbone(torch.cat(crops[start:end])))
                start = end
            return self.head(torch.cat(out))

    def crops(x):
        small = [jitter(x)[:, i : i + 4, j : j + 4] for i, j in np.random.randint(0, 5, (3, 2))]
        return [jitter(x), jitter(x), *small]

    student, teacher = Wrapper(), Wrapper()
    teacher.load_state_dict(student.state_dict())
    for p in teacher.parameters():
        p.requires_grad = False
    loader = DataLoader(Pictures(32, transform=crops), batch_size=8, shuffle=True, drop_last=True)
    decayed = [p for p in student.parameters() if p.requires_grad and p.ndim > 1]
    other = [p for p in student.parameters() if p.requires_grad and p.ndim <= 1]
    optimizer = torch.optim.AdamW([{"params": decayed}, {"params": other, "weight_decay": 0.0}])
    center, total = torch.zeros(1, 24), max(run.max_steps, 8)
    rates = np.concatenate((np.linspace(0, 2e-3, 3), 2e-3 * (1 + np.cos(np.pi * np.arange(total) / total)) / 2))
    decays = 0.4 - 0.36 * (1 + np.cos(np.pi * np.arange(total) / total)) / 2
    it = 0
    for epoch in itertools.count():
        for views, _ in loader:
            for i, group in enumerate(optimizer.param_groups):
                group["lr"] = rates[it]
                if i == 0:
                    group["weight_decay"] = decays[it]
            with torch.no_grad():
                t = teacher(views[:2])
            s = student(views)
            probabilities = F.softmax((t - center) / 0.04, dim=-1).chunk(2)
            terms = [
                torch.sum(-q * F.log_softmax(v / 0.1, dim=-1), dim=-1).mean()
                for iq, q in enumerate(probabilities)
                for iv, v in enumerate(s.chunk(5))
                if iv != iq
            ]
            center = center * 0.9 + t.mean(0, keepdim=True) * 0.1
            loss = sum(terms) / len(terms)
            if not math.isfinite(loss.item()):
                raise SystemExit(1)
            optimizer.zero_grad()
            loss.backward()
            for p in student.parameters():
                if p.grad is not None:
                    p.grad.mul_((3.0 / (p.grad.norm() + 1e-6)).clamp(max=1))
            if epoch < 1:
                for name, p in student.named_parameters():
                    if "last" in name:
                        p.grad = None
            optimizer.step()
            with torch.no_grad():
                m = 0.99
                for q, k in zip(student.parameters(), teacher.parameters(), strict=True):
                    k.data.mul_(m).add_((1 - m) * q.detach().data)
            it += 1
            if it == run.max_steps:
                break
        torch.save(
            {
                "student": student.state_dict(),
                "teacher": teacher.state_dict(),
                "optimizer": optimizer.state_dict(),
                "epoch": epoch + 1,
                "center": center,
            },
            run.workdir / "checkpoint.pth",
        )
        if it == run.max_steps:
            return


def fixmatch(run):
    """kekmodel/FixMatch: few labeled and many unlabeled images, interleaved in one call; a mask that starts almost empty."""
    seed_everything(run.seed)
    x, y = pictures(96)
    labeled = torch.cat([torch.where(y == c)[0][:4] for c in range(CLASSES)]).tolist()

    class Part(Dataset):
        def __init__(self, indexes, transform):
            self.indexes, self.transform = indexes, transform

        def __len__(self):
            return len(self.indexes)

        def __getitem__(self, i):
            return self.transform(x[self.indexes[i]]), int(y[self.indexes[i]])

    strong = lambda image: jitter(jitter(image)) * (torch.rand_like(image) > 0.2)  # noqa: E731
    labeled_loader = DataLoader(Part(labeled * 4, jitter), batch_size=8, shuffle=True, drop_last=True)
    unlabeled_loader = DataLoader(
        Part(range(96), lambda image: (jitter(image), strong(image))), batch_size=24, shuffle=True, drop_last=True
    )
    test_loader = DataLoader(Pictures(32, start=1), batch_size=32)
    model = convnet()
    ema = copy.deepcopy(model).requires_grad_(False)
    decay = [p for n, p in model.named_parameters() if "bias" not in n and p.ndim > 1]
    rest = [p for n, p in model.named_parameters() if "bias" in n or p.ndim <= 1]
    optimizer = torch.optim.SGD(
        [{"params": decay, "weight_decay": 5e-4}, {"params": rest, "weight_decay": 0.0}],
        lr=0.03,
        momentum=0.9,
        nesterov=True,
    )
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: max(0.0, math.cos(math.pi * 7 * step / (16 * 100)))
    )
    labeled_iter, unlabeled_iter = iter(labeled_loader), iter(unlabeled_loader)
    for step in range(1, run.max_steps + 1):
        model.train()
        try:
            inputs_x, targets_x = next(labeled_iter)
        except StopIteration:
            labeled_iter = iter(labeled_loader)
            inputs_x, targets_x = next(labeled_iter)
        try:
            (weak, hard), _ = next(unlabeled_iter)
        except StopIteration:
            unlabeled_iter = iter(unlabeled_loader)
            (weak, hard), _ = next(unlabeled_iter)
        inputs = torch.cat((inputs_x, weak, hard))
        interleaved = inputs.reshape(-1, 7, *inputs.shape[1:]).transpose(0, 1).reshape(-1, *inputs.shape[1:])
        logits = model(interleaved)
        logits = logits.reshape(7, -1, CLASSES).transpose(0, 1).reshape(-1, CLASSES)
        weak_logits, hard_logits = logits[8:].chunk(2)
        supervised = F.cross_entropy(logits[:8], targets_x, reduction="mean")
        confidence, targets_u = torch.softmax(weak_logits.detach(), dim=-1).max(dim=-1)
        mask = confidence.ge(0.95).float()
        loss = supervised + (F.cross_entropy(hard_logits, targets_u, reduction="none") * mask).mean()
        loss.backward()
        optimizer.step()
        scheduler.step()
        with torch.no_grad():
            mine = model.state_dict()
            for key, value in ema.state_dict().items():
                if key in dict(ema.named_parameters()):
                    value.copy_(value * 0.99 + mine[key] * 0.01)
                else:
                    value.copy_(mine[key])
        model.zero_grad()
        if step % 3 == 0:
            print("ema", evaluate(ema, test_loader))
            torch.save(
                {
                    "state_dict": model.state_dict(),
                    "ema_state_dict": ema.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "scheduler": scheduler.state_dict(),
                },
                run.workdir / "checkpoint.pth.tar",
            )


class MPerClass(Sampler):
    """P classes, K samples of each."""

    def __init__(self, labels, classes=3, per_class=4):
        self.places = {c: np.where(np.asarray(labels) == c)[0] for c in set(labels)}
        self.classes, self.per_class, self.batches = classes, per_class, len(labels) // (classes * per_class)

    def __iter__(self):
        for _ in range(self.batches):
            batch = []
            for c in random.sample(sorted(self.places), self.classes):
                batch += np.random.choice(self.places[c], self.per_class, replace=False).tolist()
            yield batch

    def __len__(self):
        return self.batches


def triplet(run):
    """Batch-hard triplets from a P-by-K sampler, ArcFace proxies in an optimizer of their own, recall at one."""
    seed_everything(run.seed)
    data = Pictures(72)
    loader = DataLoader(data, batch_sampler=MPerClass(data.y.tolist()))
    model = encoder(8)
    proxies = nn.Parameter(torch.nn.init.xavier_normal_(torch.empty(CLASSES, 8)))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    proxy_optimizer = torch.optim.SGD([proxies], lr=0.1)
    step = 0
    while step < run.max_steps:
        for x, y in loader:
            z = F.normalize(model(x))
            distance = torch.cdist(z, z)
            same = y[:, None] == y[None]
            hardest_positive = distance.masked_fill(~same, 0).max(1).values
            hardest_negative = distance.masked_fill(same, 9).min(1).values
            cosine = (z @ F.normalize(proxies).T).clamp(-1 + 1e-6, 1 - 1e-6)
            margin = F.one_hot(y, CLASSES) * 0.2
            arc = F.cross_entropy(8 * torch.cos(torch.acos(cosine) + margin), y)
            loss = F.relu(hardest_positive - hardest_negative + 0.2).mean() + arc
            optimizer.zero_grad()
            proxy_optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            proxy_optimizer.step()
            step += 1
            if step == run.max_steps:
                break
        gallery, labels = pictures(40, start=1)
        model.eval()
        with torch.inference_mode():
            z = F.normalize(model(gallery))
            near = (z @ z.T).fill_diagonal_(-1).argmax(1)
        print("R@1", (labels[near] == labels).float().mean().item())
        model.train()
    torch.save({"net": model.state_dict(), "proxies": proxies.data}, run.workdir / "net.pt")


def ohem(run):
    """Rare positives: a weighted sampler, only the hardest half of each batch counts, negatives that fooled come back."""
    seed_everything(run.seed)
    x, y = pictures(160)
    y = (y == 0).float()
    keep = torch.where((y == 0) | (torch.arange(160) % 4 == 0))[0]
    x, y = x[keep], y[keep]
    model = convnet(classes=1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    weights = torch.where(y > 0, 3.0, 1.0)
    step = 0
    while step < run.max_steps:
        sampler = BatchSampler(WeightedRandomSampler(weights, 48, replacement=True), 12, drop_last=False)
        for chosen in sampler:
            losses = F.binary_cross_entropy_with_logits(model(x[chosen]).flatten(), y[chosen], reduction="none")
            losses.topk(6).values.mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            step += 1
            if step == run.max_steps:
                break
        model.eval()
        with torch.no_grad():
            scores = model(x).flatten().sigmoid()
        weights = torch.where((y == 0) & (scores > 0.5), 4.0, torch.where(y > 0, 3.0, 1.0))
        print("mined", int((weights == 4).sum()), accuracy(torch.stack([-scores + 0.5, scores - 0.5], 1), y))
        model.train()
    torch.save(model, run.workdir / "final.pth")
