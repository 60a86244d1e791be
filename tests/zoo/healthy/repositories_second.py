"""A second look into repositories: averages at the end, carried states, experts, ensembles, growth, refits."""

import copy
import itertools
import math

import torch
import torch.nn.functional as F
from torch import nn, optim
from torch.optim.swa_utils import SWALR, AveragedModel, update_bn
from torch.utils.data import ConcatDataset, DataLoader, TensorDataset

from zoo.healthy.repositories_data import CLASSES, Pictures, endless, pictures, seed_everything
from zoo.healthy.repositories_optimizers import convnet, evaluate, loaders


def swa_of_the_docs(run):
    """The example of torch's own pages: a slow schedule, another one from an epoch on, statistics renewed at the end."""
    seed_everything(run.seed)
    loader, val_loader = loaders()
    model = convnet()
    optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    swa_model = AveragedModel(model)
    scheduler = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=100)
    swa_start, steps = 2, 0
    swa_scheduler = SWALR(optimizer, swa_lr=0.02)
    for epoch in range(math.ceil(run.max_steps / len(loader))):
        for x, y in loader:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            steps += 1
            if steps == run.max_steps:
                break
        if epoch > swa_start:
            swa_model.update_parameters(model)
            swa_scheduler.step()
        else:
            scheduler.step()
    update_bn(loader, swa_model)
    print(evaluate(swa_model, val_loader))
    torch.save(swa_model.state_dict(), run.workdir / "swa.pt")


def word_language_model(run):
    """pytorch/examples: one long text in columns, a hidden state carried and detached, plain updates, a rate quartered."""
    seed_everything(run.seed)
    words = torch.arange(1300) * 7 % 40 + (torch.arange(1300) % 3 == 0).long()
    batchify = lambda data, size: data[: len(data) // size * size].view(size, -1).t().contiguous()  # noqa: E731
    train, held_out = batchify(words[:1000], 8), batchify(words[1000:], 4)
    encoder, rnn, decoder = nn.Embedding(42, 16), nn.LSTM(16, 16, 2, dropout=0.2), nn.Linear(16, 42)
    decoder.weight = encoder.weight
    model = nn.ModuleList([encoder, rnn, decoder])
    lr, best, done = 5.0, None, 0

    def forward(data, hidden):
        out, hidden = rnn(F.dropout(encoder(data), 0.2, model.training), hidden)
        return decoder(out).view(-1, 42), hidden

    while done < run.max_steps:
        model.train()
        hidden = None
        for i in range(0, len(train) - 1, 12):
            length = min(12, len(train) - 1 - i)
            hidden = None if hidden is None else tuple(h.detach() for h in hidden)
            model.zero_grad()
            output, hidden = forward(train[i : i + length], hidden)
            F.cross_entropy(output, train[i + 1 : i + 1 + length].view(-1)).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.25)
            for p in model.parameters():
                p.data.add_(p.grad, alpha=-lr)
            done += 1
            if done == run.max_steps:
                break
        model.eval()
        with torch.no_grad():
            loss = F.cross_entropy(forward(held_out[:-1], None)[0], held_out[1:].view(-1)).item()
        if best is None or loss < best:
            best = loss
            torch.save(model, run.workdir / "model.pt")
        else:
            lr /= 4.0


class Experts(nn.Module):
    """Top-one routing: an expert that no token chose gets no gradient in that step."""

    def __init__(self, width=16, count=6):
        super().__init__()
        self.router, self.experts = (
            nn.Linear(width, count, bias=False),
            nn.ModuleList(nn.Linear(width, width) for _ in range(count)),
        )

    def forward(self, x):
        gates = self.router(x + (0.5 * torch.randn_like(x) if self.training else 0)).softmax(-1)
        weight, chosen = gates.max(-1)
        out = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            rows = torch.where(chosen == number)[0]
            if len(rows):
                out = out.index_add(0, rows, weight[rows, None] * expert(x[rows]))
        share = F.one_hot(chosen, len(self.experts)).float().mean(0)
        self.balance = len(self.experts) * (share * gates.mean(0)).sum()
        return x + out


def experts(run):
    """A mixture of experts with a balancing loss; some experts rest for many steps."""
    seed_everything(run.seed)
    loader, val_loader = loaders(batch=6)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), Experts(), nn.Linear(16, CLASSES))
    optimizer = optim.Adam(model.parameters(), lr=3e-3)
    stream = endless(loader)
    for step, (x, y) in zip(range(1, run.max_steps + 1), stream):  # noqa: B905
        loss = F.cross_entropy(model(x), y) + 0.01 * model[3].balance
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if step % 5 == 0:
            print(step, evaluate(model, val_loader))
    torch.save({"step": step, "model": model.state_dict()}, run.workdir / "moe.pt")


def mutual(run):
    """Deep mutual learning: two students teach each other in each batch, an optimizer each."""
    seed_everything(run.seed)
    loader, val_loader = loaders(batch=12)
    nets = [convnet(), convnet(width=6)]
    optimizers = [optim.SGD(net.parameters(), lr=0.05, momentum=0.9) for net in nets]
    steps = 0
    while steps < run.max_steps:
        for x, y in loader:
            outputs = [net(x) for net in nets]
            for mine, optimizer in enumerate(optimizers):
                other = outputs[1 - mine].detach()
                loss = F.cross_entropy(outputs[mine], y) + F.kl_div(
                    F.log_softmax(outputs[mine], 1), F.softmax(other, 1), reduction="batchmean"
                )
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            steps += 1
            if steps == run.max_steps:
                break
        print([evaluate(net, val_loader) for net in nets])
    torch.save({f"net{i}": net.state_dict() for i, net in enumerate(nets)}, run.workdir / "mutual.pt")


def grown(run):
    """Progressive growing: every few steps a block is added and faded in; each phase has an optimizer of its own."""
    seed_everything(run.seed)
    x, _ = pictures(48)
    blocks, heads = nn.ModuleList([nn.Conv2d(6, 6, 3, padding=1)]), nn.ModuleList([nn.Conv2d(6, 1, 1)])
    stem = nn.Linear(5, 6 * 2 * 2)
    model = nn.ModuleDict({"stem": stem, "blocks": blocks, "heads": heads})
    code = torch.randn(48, 5)
    step = 0
    for phase in range(3):
        if phase:
            blocks.append(nn.Conv2d(6, 6, 3, padding=1))
            heads.append(nn.Conv2d(6, 1, 1))
        optimizer = optim.Adam(model.parameters(), lr=5e-3, betas=(0.0, 0.99))
        size, length = 2 * 2**phase, max(2, run.max_steps // 3)
        for it in range(length):
            rows = torch.randperm(48)[:12]
            h = stem(code[rows]).view(-1, 6, 2, 2)
            for block in blocks[:-1]:
                h = F.interpolate(F.leaky_relu(block(h), 0.2), scale_factor=2)
            out = heads[-1](F.leaky_relu(blocks[-1](h), 0.2))
            if phase:
                alpha = min(1.0, 2 * it / length)
                out = alpha * out + (1 - alpha) * heads[-2](h)
            loss = F.mse_loss(out, F.adaptive_avg_pool2d(x[rows], size))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            if step == run.max_steps:
                break
        torch.save({"phase": phase, "model": model.state_dict()}, run.workdir / f"phase{phase}.pt")
        if step == run.max_steps:
            return


def functional_ensemble(run):
    """Five networks at once by stacked parameters and vmap; the optimizer holds the stacks, the module none of them."""
    seed_everything(run.seed)
    x, y = pictures(64)
    nets = [nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.Tanh(), nn.Linear(12, CLASSES)) for _ in range(5)]
    params, buffers = torch.func.stack_module_state(nets)
    base = copy.deepcopy(nets[0]).to("meta")

    def call(p, b, rows):
        return torch.func.functional_call(base, (p, b), (rows,))

    optimizer = optim.Adam(params.values(), lr=5e-3)
    for _ in range(run.max_steps):
        rows = torch.randint(0, 64, (16,))
        logits = torch.vmap(call, in_dims=(0, 0, None))(params, buffers, x[rows])
        loss = F.cross_entropy(logits.flatten(0, 1), y[rows].repeat(5), reduction="sum") / 16
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.save({k: v.detach() for k, v in params.items()}, run.workdir / "ensemble.pt")


def refit(run):
    """Early stopping on a hold-out, the best put back, then some more steps on everything."""
    seed_everything(run.seed)
    train, held_out = Pictures(40), Pictures(16, start=1)
    model = convnet()
    optimizer = optim.Adam(model.parameters(), lr=3e-3)
    best, kept, bad, steps = math.inf, None, 0, 0
    first = max(1, 2 * run.max_steps // 3)
    while steps < first and bad < 2:
        for x, y in DataLoader(train, 8, shuffle=True):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            steps += 1
            if steps == first:
                break
        model.eval()
        with torch.no_grad():
            loss = sum(F.cross_entropy(model(x), y, reduction="sum").item() for x, y in DataLoader(held_out, 16)) / 16
        model.train()
        bad = 0 if loss < best else bad + 1
        if loss < best:
            best, kept = loss, copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    model.load_state_dict(kept[0])
    optimizer.load_state_dict(kept[1])
    everything = DataLoader(ConcatDataset([train, held_out]), 8, shuffle=True)
    for x, y in itertools.islice(endless(everything), run.max_steps - steps):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    torch.save(model.state_dict(), run.workdir / "refitted.pt")


def masters(run):
    """A bfloat16 model, float32 masters in the optimizer, a static scale: gradients go there, weights come back."""
    seed_everything(run.seed)
    x, y = pictures(64)
    data = DataLoader(TensorDataset(x.flatten(1), y), batch_size=16, shuffle=True)
    model = nn.Sequential(nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, CLASSES)).bfloat16()
    master = [p.detach().clone().float().requires_grad_() for p in model.parameters()]
    optimizer = optim.SGD(master, lr=0.05, momentum=0.9)
    steps, scale = 0, 128.0
    while steps < run.max_steps:
        for images, labels in data:
            loss = F.cross_entropy(model(images.bfloat16()).float(), labels)
            model.zero_grad()
            (loss * scale).backward()
            for p, m in zip(model.parameters(), master, strict=True):
                m.grad = p.grad.float() / scale
            optimizer.step()
            with torch.no_grad():
                for p, m in zip(model.parameters(), master, strict=True):
                    p.copy_(m)
            steps += 1
            if steps == run.max_steps:
                break
    torch.save(
        {"model": model.state_dict(), "master": master, "optimizer": optimizer.state_dict()}, run.workdir / "fp16.pt"
    )


def folds_from_one_start(run):
    """Every fold begins with the same weights put back, and a new optimizer on the same model."""
    seed_everything(run.seed)
    x, y = pictures(60)
    model = convnet()
    start = copy.deepcopy(model.state_dict())
    scores, steps = [], 0
    for fold in range(3):
        held_out = torch.arange(60) % 3 == fold
        model.load_state_dict(start)
        optimizer = optim.AdamW(model.parameters(), lr=3e-3)
        loader = DataLoader(TensorDataset(x[~held_out], y[~held_out]), 10, shuffle=True)
        model.train()
        for rows, labels in itertools.islice(endless(loader), max(1, run.max_steps // 3)):
            optimizer.zero_grad()
            F.cross_entropy(model(rows), labels).backward()
            optimizer.step()
            steps += 1
        model.eval()
        with torch.no_grad():
            scores.append((model(x[held_out]).argmax(1) == y[held_out]).float().mean().item())
        torch.save(model.state_dict(), run.workdir / f"fold{fold}.pt")
    print(sum(scores) / 3)
