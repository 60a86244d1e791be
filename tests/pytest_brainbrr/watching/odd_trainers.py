"""Small trainers written in very different ways. Each returns what must not depend on being watched."""

import copy
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset


class Net(nn.Module):
    def __init__(self, norm: bool = True) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv1d(3, 8, 3, padding=1), nn.BatchNorm1d(8) if norm else nn.Identity(), nn.GELU()
        )
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.drop(self.encoder(x).mean(-1))).squeeze(-1)


def data(n: int = 32) -> TensorDataset:
    x = torch.randn(n, 3, 16, generator=torch.Generator().manual_seed(7))
    return TensorDataset(x, (x.mean((1, 2)) > 0).float())


def state(*things: object) -> list[object]:
    found: list[object] = [torch.get_rng_state().clone()]
    for thing in things:
        if isinstance(thing, nn.Module):
            found += [value.clone() for value in thing.state_dict().values()]
        elif isinstance(thing, torch.optim.Optimizer):
            for slots in thing.state.values():
                found += [
                    value.clone() if isinstance(value, Tensor) else value
                    for value in slots.values()
                    if not isinstance(value, list)
                ]
        else:
            found.append(thing)
    return found


def batches(steps: int, **options: object) -> Iterator[tuple[Tensor, Tensor]]:
    loader = DataLoader(data(), 8, shuffle=True, **options)  # type: ignore[arg-type]
    taken = 0
    while True:
        for x, y in loader:
            if taken == steps:
                return
            taken += 1
            yield x, y


def bare(steps: int = 4) -> list[object]:
    torch.manual_seed(0)
    net = Net()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps + 1)
    losses = []
    for x, y in batches(steps):
        optimizer.zero_grad()
        loss = nn.functional.binary_cross_entropy_with_logits(net(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 0.5)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    net.eval()
    with torch.no_grad():
        losses.append(float(net(data().tensors[0]).sum()))
    return state(net, optimizer, losses)


def accumulating(steps: int = 3) -> list[object]:
    torch.manual_seed(0)
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-2, momentum=0.9)
    for place, (x, y) in enumerate(batches(steps * 2)):
        (nn.BCEWithLogitsLoss()(net(x), y) / 2).backward()
        if place % 2:
            optimizer.step()
            optimizer.zero_grad()
    return state(net, optimizer)


def closures(steps: int = 3) -> list[object]:
    torch.manual_seed(0)
    net = Net(norm=False)
    optimizer = torch.optim.LBFGS(net.parameters(), max_iter=4)
    x, y = data().tensors

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(net(x), y)
        loss.backward()
        return loss

    for _ in range(steps):
        optimizer.step(closure)
    return state(net)


def fused(steps: int = 4) -> list[object]:
    torch.manual_seed(0)
    net = Net()
    optimizers = {parameter: torch.optim.AdamW([parameter], lr=1e-2) for parameter in net.parameters()}

    def update(parameter: Tensor) -> None:
        optimizers[parameter].step()
        optimizers[parameter].zero_grad()

    for parameter in net.parameters():
        parameter.register_post_accumulate_grad_hook(update)
    for x, y in batches(steps):
        nn.functional.binary_cross_entropy_with_logits(net(x), y).backward()
    return state(net, *optimizers.values())


def adversarial(steps: int = 4) -> list[object]:
    torch.manual_seed(0)
    maker, judge = (
        nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 6)),
        nn.Sequential(nn.Linear(6, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1)),
    )
    one, two = torch.optim.Adam(maker.parameters(), 1e-3), torch.optim.Adam(judge.parameters(), 1e-3)
    for _ in range(steps):
        real, fake = torch.randn(8, 6), maker(torch.randn(8, 4))
        two.zero_grad()
        right, wrong = judge(real), judge(fake.detach())
        loss = nn.functional.binary_cross_entropy_with_logits(right, torch.ones_like(right))
        (loss + nn.functional.binary_cross_entropy_with_logits(wrong, torch.zeros_like(wrong))).backward()
        two.step()
        one.zero_grad()
        fooled = judge(fake)
        nn.functional.binary_cross_entropy_with_logits(fooled, torch.ones_like(fooled)).backward()
        one.step()
    return state(maker, judge, one, two)


def scaled(steps: int = 4) -> list[object]:
    torch.manual_seed(0)
    net = Net()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    for x, y in batches(steps):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = nn.functional.binary_cross_entropy_with_logits(net(x), y)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
    return state(net, optimizer, scaler.get_scale())


def averaged(steps: int = 4) -> list[object]:
    torch.manual_seed(0)
    net = Net()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    average = torch.optim.swa_utils.AveragedModel(net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9))
    teacher = copy.deepcopy(net).requires_grad_(False)
    shadow = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
    for x, y in batches(steps):
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(net(x), y).backward()
        optimizer.step()
        average.update_parameters(net)
        with torch.no_grad():
            for mine, theirs in zip(net.parameters(), teacher.parameters(), strict=True):
                theirs.lerp_(mine, 0.1)
            for name, parameter in net.named_parameters():
                shadow[name] = 0.9 * shadow[name] + 0.1 * parameter
    return state(net, average, teacher, *shadow.values())


def by_workers(steps: int = 4) -> list[object]:
    torch.manual_seed(0)
    net = Net()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    for x, y in batches(steps, num_workers=2):
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(net(x), y).backward()
        optimizer.step()
    return state(net, optimizer)


def recomputing(steps: int = 3) -> list[object]:
    from torch.utils.checkpoint import checkpoint

    torch.manual_seed(0)
    net = Net()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    for reentrant in (True, False):
        for x, y in batches(steps):
            optimizer.zero_grad()
            middle = checkpoint(net.encoder, x.requires_grad_(), use_reentrant=reentrant)
            logits = net.head(net.drop(middle.mean(-1))).squeeze(-1)
            nn.functional.binary_cross_entropy_with_logits(logits, y).backward()
            optimizer.step()
    return state(net, optimizer)


def normed(steps: int = 3) -> list[object]:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Conv1d(3, 4, 3)),
        nn.Flatten(),
        nn.utils.parametrizations.spectral_norm(nn.Linear(56, 1)),
    )
    optimizer = torch.optim.RMSprop(net.parameters(), lr=1e-2)
    for x, y in batches(steps):
        optimizer.zero_grad()
        nn.functional.mse_loss(net(x).squeeze(-1), y).backward()
        optimizer.step()
    return state(net, optimizer)


def by_hand(steps: int = 3) -> list[object]:
    torch.manual_seed(0)
    net = Net()
    for x, y in batches(steps):
        logits = net(x)
        loss = (torch.log1p(torch.exp(-logits * (2 * y - 1)))).mean()
        gradients = torch.autograd.grad(loss, list(net.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(net.parameters(), gradients, strict=True):
                parameter.sub_(0.1 * gradient)
    return state(net)


def compiled(steps: int = 3) -> list[object]:
    torch.manual_seed(0)
    net = Net()
    fast = torch.compile(net, backend="eager")
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    for x, y in batches(steps):
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(fast(x), y).backward()
        optimizer.step()
    return state(net, optimizer)


def second_order(steps: int = 3) -> list[object]:
    torch.manual_seed(0)
    net = Net(norm=False)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    for x, y in batches(steps):
        x.requires_grad_()
        loss = nn.functional.mse_loss(net(x), y)
        (slope,) = torch.autograd.grad(loss, x, create_graph=True)
        optimizer.zero_grad()
        (loss + slope.pow(2).sum()).backward()
        optimizer.step()
    return state(net, optimizer)


def sparse(steps: int = 3) -> list[object]:
    torch.manual_seed(0)
    table, head = nn.EmbeddingBag(20, 4, sparse=True), nn.Linear(4, 1)
    one, two = torch.optim.SparseAdam(table.parameters(), lr=1e-2), torch.optim.SGD(head.parameters(), lr=1e-2)
    for _ in range(steps):
        words, y = torch.randint(0, 20, (8, 5)), torch.rand(8)
        one.zero_grad()
        two.zero_grad()
        nn.functional.mse_loss(head(table(words)).squeeze(-1), y).backward()
        one.step()
        two.step()
    return state(table, head, two)


TRAINERS: dict[str, Callable[[], list[object]]] = {
    function.__name__: function
    for function in (
        bare, accumulating, closures, fused, adversarial, scaled, averaged, by_workers, recomputing, normed, by_hand,
        compiled, second_order, sparse,
    )
}  # fmt: skip
