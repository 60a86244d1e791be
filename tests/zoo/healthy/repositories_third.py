"""Losses and steps with a way of their own: attacks, codes, flows, towers, cached gradients, trials, servers."""

import copy
import itertools
import math

import torch
import torch.nn.functional as F
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset

from zoo.healthy.repositories_data import CLASSES, endless, jitter, pictures, seed_everything
from zoo.healthy.repositories_optimizers import convnet, evaluate, loaders


def attacked(run):
    """Adversarial training: three backward passes to the input in evaluation mode, then one to the weights."""
    seed_everything(run.seed)
    loader, val_loader = loaders()
    model = convnet()
    optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=2e-4)
    steps = 0
    while steps < run.max_steps:
        for x, y in loader:
            model.eval()
            adversarial = x + 0.1 * torch.empty_like(x).uniform_(-1, 1)
            for _ in range(3):
                adversarial.requires_grad_()
                with torch.enable_grad():
                    loss = F.cross_entropy(model(adversarial), y)
                gradient = torch.autograd.grad(loss, [adversarial])[0]
                adversarial = adversarial.detach() + 0.05 * gradient.sign()
                adversarial = torch.min(torch.max(adversarial, x - 0.1), x + 0.1)
            model.train()
            optimizer.zero_grad()
            clean, hard = model(x), model(adversarial)
            (
                F.cross_entropy(clean, y) + F.kl_div(F.log_softmax(hard, 1), F.softmax(clean, 1), reduction="batchmean")
            ).backward()
            optimizer.step()
            steps += 1
            if steps == run.max_steps:
                break
        print(evaluate(model, val_loader))
        torch.save(model.state_dict(), run.workdir / "robust.pt")


class Codebook(nn.Module):
    def __init__(self, count=12, width=6, decay=0.8):
        super().__init__()
        self.decay = decay
        self.register_buffer("embed", torch.randn(count, width))
        self.register_buffer("size", torch.zeros(count))
        self.register_buffer("mean", self.embed.clone())

    def forward(self, z):
        flat = z.movedim(1, -1).reshape(-1, z.shape[1])
        code = torch.cdist(flat, self.embed).argmin(1)
        if self.training:
            with torch.no_grad():
                onehot = F.one_hot(code, len(self.embed)).float()
                self.size.mul_(self.decay).add_(onehot.sum(0), alpha=1 - self.decay)
                self.mean.mul_(self.decay).add_(onehot.T @ flat.detach(), alpha=1 - self.decay)
                self.embed.copy_(self.mean / (self.size + 1e-3)[:, None])
        quantized = self.embed[code].view(*z.movedim(1, -1).shape).movedim(-1, 1)
        return z + (quantized - z).detach(), F.mse_loss(z, quantized.detach()), code


def vqvae(run):
    """A codebook that only averages move, straight-through, a commitment loss; labels are delivered and unused."""
    seed_everything(run.seed)
    loader, val_loader = loaders()
    model = nn.ModuleDict(
        {"down": nn.Conv2d(1, 6, 4, 2, 1), "codes": Codebook(), "up": nn.ConvTranspose2d(6, 1, 4, 2, 1)}
    )
    optimizer = optim.Adam(model.parameters(), lr=3e-3)
    steps = 0
    while steps < run.max_steps:
        model.train()
        for x, _ in loader:
            z, commitment, _ = model["codes"](model["down"](x))
            loss = F.mse_loss(model["up"](z), x) + 0.25 * commitment
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            steps += 1
            if steps == run.max_steps:
                break
        model.eval()
        with torch.no_grad():
            print(sum(F.mse_loss(model["up"](model["codes"](model["down"](x))[0]), x).item() for x, _ in val_loader))
    torch.save(model.state_dict(), run.workdir / "vqvae.pt")


class ActNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.loc, self.scale = nn.Parameter(torch.zeros(width)), nn.Parameter(torch.ones(width))
        self.register_buffer("initialized", torch.tensor(0, dtype=torch.uint8))

    def forward(self, x):
        if self.initialized.item() == 0:
            with torch.no_grad():
                self.loc.copy_(-x.mean(0))
                self.scale.copy_(1 / (x.std(0) + 1e-6))
                self.initialized.fill_(1)
        return self.scale * (x + self.loc), self.scale.abs().log().sum()


class Coupling(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(width // 2, 16), nn.ReLU(), nn.Linear(16, width))
        nn.init.zeros_(self.net[-1].weight)
        nn.init.zeros_(self.net[-1].bias)

    def forward(self, x):
        a, b = x.chunk(2, 1)
        shift, scale = self.net(a).chunk(2, 1)
        scale = torch.tanh(scale)
        return torch.cat([b * scale.exp() + shift, a], 1), scale.sum(1)


def flow(run):
    """A normalizing flow: the first batch sets the normalization, the negative log-likelihood may be negative."""
    seed_everything(run.seed)
    model = nn.ModuleList(layer for _ in range(3) for layer in (ActNorm(4), Coupling(4)))
    optimizer = optim.Adamax(model.parameters(), lr=3e-3)
    base = torch.distributions.Normal(0.0, 1.0)
    points = torch.randn(128, 4) * torch.tensor([0.05, 0.1, 0.05, 0.1]) + 3

    def log_prob(x):
        total = torch.zeros(len(x))
        for layer in model:
            x, logdet = layer(x)
            total = total + logdet
        return base.log_prob(x).sum(1) + total

    for step in range(run.max_steps):
        loss = -log_prob(points[torch.randint(0, 96, (32,))]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 5 == 4:
            with torch.no_grad():
                print(step, loss.item(), -log_prob(points[96:]).mean().item())
    torch.save(model.state_dict(), run.workdir / "flow.pt")


def towers(run):
    """CLIP: two encoders, a logit scale that is clamped after each step, targets that are the row numbers."""
    seed_everything(run.seed)
    x, y = pictures(64)
    words = torch.stack([y, (y + torch.arange(64)) % 7 + 4], 1)
    image, text = (
        nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.GELU(), nn.Linear(16, 8)),
        nn.Sequential(nn.EmbeddingBag(12, 8), nn.Linear(8, 8)),
    )
    scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
    groups = [
        {"params": [*image.parameters(), *text.parameters()], "weight_decay": 0.2},
        {"params": [scale], "weight_decay": 0.0},
    ]
    optimizer = optim.AdamW(groups, lr=2e-3, betas=(0.9, 0.98), eps=1e-6)
    for step, (pixels, tokens) in enumerate(
        itertools.islice(endless(DataLoader(TensorDataset(x, words), 16, shuffle=True, drop_last=True)), run.max_steps)
    ):
        a, b = F.normalize(image(pixels), dim=-1), F.normalize(text(tokens), dim=-1)
        logits = scale.exp() * a @ b.T
        labels = torch.arange(len(logits))
        loss = (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            scale.clamp_(0, math.log(100))
        if step % 5 == 4:
            torch.save(
                {
                    "image": image.state_dict(),
                    "text": text.state_dict(),
                    "scale": scale.detach(),
                    "optimizer": optimizer.state_dict(),
                },
                run.workdir / "clip.pt",
            )


def cached_gradients(run):
    """GradCache: a large batch is encoded without a graph, the loss gives gradients of its codes, chunks are encoded again."""
    seed_everything(run.seed)
    x, _ = pictures(64)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 24), nn.ReLU(), nn.LayerNorm(24), nn.Linear(24, 8))
    optimizer = optim.AdamW(net.parameters(), lr=2e-3)
    for _ in range(run.max_steps):
        rows = torch.randperm(64)[:32]
        one, two = jitter(x[rows]), jitter(x[rows])
        chunks = [*one.chunk(4), *two.chunk(4)]
        with torch.no_grad():
            codes = torch.cat([net(chunk) for chunk in chunks])
        codes.requires_grad_()
        a, b = F.normalize(codes, dim=1).chunk(2)
        F.cross_entropy(a @ b.T / 0.1, torch.arange(32)).backward()
        optimizer.zero_grad()
        for chunk, gradient in zip(chunks, codes.grad.split(8), strict=True):
            torch.dot(net(chunk).flatten(), gradient.flatten()).backward()
        optimizer.step()
    torch.save(net.state_dict(), run.workdir / "encoder.pt")


class PrunedError(Exception):
    pass


def trials(run):
    """A search: trials with rates of their own, the hopeless ones end by an exception, the best is trained again."""
    seed_everything(run.seed)
    loader, val_loader = loaders()
    results, budget = {}, [run.max_steps]

    def objective(lr, epochs, bar):
        torch.manual_seed(run.seed)
        model = convnet()
        optimizer = optim.SGD(model.parameters(), lr=lr)
        for _ in range(epochs):
            for x, y in itertools.islice(loader, 2):
                if not budget[0]:
                    return model, 0.0
                optimizer.zero_grad()
                F.cross_entropy(model(x), y).backward()
                optimizer.step()
                budget[0] -= 1
            score = evaluate(model, val_loader)
            if score < bar:
                raise PrunedError
        return model, score

    for lr in (1e-4, 3e-2, 1e-1):
        try:
            results[lr] = objective(lr, 1, max(results.values(), default=0.0))[1]
        except PrunedError:
            continue
    best = max(results, key=results.get)
    torch.save(objective(best, 10, 0.0)[0].state_dict(), run.workdir / "best_trial.pt")


def server(run):
    """Adaptive federated averaging: clients train copies, the mean difference is the gradient of the server's Adam."""
    seed_everything(run.seed)
    x, y = pictures(60)
    clients = [(x[i::3], y[i::3]) for i in range(3)]
    model = convnet()
    optimizer = optim.Adam(model.parameters(), lr=1e-2, betas=(0.9, 0.99), eps=1e-3)
    for _ in range(run.max_steps):
        differences = [torch.zeros_like(p) for p in model.parameters()]
        statistics = []
        for images, labels in clients:
            local = copy.deepcopy(model)
            local_optimizer = optim.SGD(local.parameters(), lr=0.05)
            for rows in torch.randperm(20).split(10):
                local_optimizer.zero_grad()
                F.cross_entropy(local(images[rows]), labels[rows]).backward()
                local_optimizer.step()
            for total, p, q in zip(differences, model.parameters(), local.parameters(), strict=True):
                total += (p.detach() - q.detach()) / 3
            statistics.append(dict(local.named_buffers()))
        optimizer.zero_grad()
        for p, difference in zip(model.parameters(), differences, strict=True):
            p.grad = difference
        optimizer.step()
        for name, buffer in model.named_buffers():
            if buffer.is_floating_point():
                buffer.copy_(torch.stack([each[name] for each in statistics]).mean(0))
    torch.save(model.state_dict(), run.workdir / "global.pt")


def bayesian(run):
    """Weights are drawn anew in each call; the divergence is shared out among the batches."""
    seed_everything(run.seed)

    class Bayes(nn.Module):
        def __init__(self, inputs, outputs):
            super().__init__()
            self.mu, self.rho = (
                nn.Parameter(0.1 * torch.randn(outputs, inputs)),
                nn.Parameter(torch.full((outputs, inputs), -4.0)),
            )

        def forward(self, x):
            sigma = F.softplus(self.rho)
            self.kl = (-sigma.log() + (sigma**2 + self.mu**2) / 2 - 0.5).sum()
            return x @ (self.mu + sigma * torch.randn_like(sigma)).T

    x, y = pictures(80)
    loader = DataLoader(TensorDataset(x[:64].flatten(1), y[:64]), batch_size=16, shuffle=True)
    model = nn.Sequential(Bayes(64, 16), nn.ReLU(), Bayes(16, CLASSES))
    optimizer = optim.Adam(model.parameters(), lr=1e-2)
    steps = 0
    while steps < run.max_steps:
        for images, labels in loader:
            nll = F.cross_entropy(model(images), labels, reduction="sum") * 64 / len(labels)
            loss = nll + sum(layer.kl for layer in model[::2])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            steps += 1
            if steps == run.max_steps:
                break
        with torch.no_grad():
            mean = torch.stack([model(x[64:].flatten(1)).softmax(1) for _ in range(5)]).mean(0)
        print((mean.argmax(1) == y[64:]).float().mean().item())
    torch.save(model.state_dict(), run.workdir / "posterior.pt")


def features(run):
    """A frozen backbone is run once, its features are kept in a file, and a head is trained on them."""
    seed_everything(run.seed)
    backbone = convnet()[:-1].eval().requires_grad_(False)
    cache = run.workdir / "features.pt"
    if not cache.exists():
        sets = {}
        for name, start in (("train", 0), ("val", 1)):
            x, y = pictures(48, start=start)
            with torch.inference_mode():
                sets[name] = (torch.cat([backbone(rows) for rows in x.split(16)]).clone(), y)
        torch.save(sets, cache)
    sets = torch.load(cache)
    head = nn.Linear(32, CLASSES)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    optimizer = optim.SGD(head.parameters(), lr=0.5, momentum=0.9)
    loader = DataLoader(TensorDataset(*sets["train"]), 16, shuffle=True)
    scheduler = optim.lr_scheduler.PolynomialLR(optimizer, total_iters=run.max_steps + 1)
    for step, (h, y) in enumerate(itertools.islice(endless(loader), run.max_steps)):
        optimizer.zero_grad()
        F.cross_entropy(head(h), y).backward()
        optimizer.step()
        scheduler.step()
        if step % 3 == 2:
            with torch.no_grad():
                h, y = sets["val"]
                print((head(h).argmax(1) == y).float().mean().item())
    torch.save(head.state_dict(), run.workdir / "head.pt")
