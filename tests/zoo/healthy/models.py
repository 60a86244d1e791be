"""Healthy trainers whose network, or the way it is called, is unusual."""

import copy
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from zoo.healthy.common import accuracy, batches, load, small_net


def fit(run, model, data, *, lr=5e-3, parameters=None, forward=None):
    """Train with Adam and binary cross-entropy."""
    optimizer = torch.optim.Adam(model.parameters() if parameters is None else parameters, lr)
    for _, (xb, yb) in zip(range(run.max_steps), batches(*data[:2], run.seed), strict=False):
        logits = (forward or model)(xb).squeeze(-1)
        loss = F.binary_cross_entropy_with_logits(logits, yb)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(width, width, 3, padding=1), nn.ReLU(), nn.Conv1d(width, width, 3, padding=1)
        )
        nn.init.zeros_(self.body[2].weight)
        nn.init.zeros_(self.body[2].bias)

    def forward(self, x):
        return x + self.body(x)


def zero_init_residual(run):
    """Residual branches end in zeros: the first layer of each branch gets no gradient in the first step."""
    data = load(run)
    model = nn.Sequential(
        nn.Conv1d(4, 8, 5), Residual(8), Residual(8), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(8, 1)
    )
    fit(run, model, data)


class DropPath(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv1d(4, 8, 5)
        self.layers = nn.ModuleList([nn.Conv1d(8, 8, 3, padding=1) for _ in range(4)])
        self.head = nn.Linear(8, 1)

    def forward(self, x):
        x = self.stem(x)
        for layer in self.layers:
            if self.training and torch.rand(()) < 0.5:
                continue
            x = x + torch.tanh(layer(x))
        return self.head(x.mean(-1))


def stochastic_depth(run):
    """Half of the layers are skipped at random in each step, so some get no gradient in it."""
    data = load(run)
    fit(run, DropPath(), data)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.encode = nn.Linear(256, 16, bias=False)
        self.decode = nn.Linear(16, 256, bias=False)
        self.decode.weight = nn.Parameter(self.encode.weight.detach().t().contiguous())
        self.again = nn.Linear(256, 16, bias=False)
        self.again.weight = self.encode.weight
        self.head = nn.Linear(16, 1)

    def forward(self, x):
        return self.head(self.again(self.decode(torch.tanh(self.encode(x.flatten(1))))))


def tied_weights(run):
    """Two layers share one tensor."""
    data = load(run)
    fit(run, Tied(), data)


class FineTuned(nn.Module):
    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone.requires_grad_(False)
        self.head = nn.Linear(8, 1)

    def train(self, mode=True):
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(self, x):
        with torch.no_grad():
            features = self.backbone(x)
        return self.head(features)


def frozen_backbone(run):
    """A backbone from an earlier stage stays frozen, its batch normalization in eval mode."""
    data = load(run)
    pretrained = small_net(outputs=8)
    weights = Path(run.workdir) / "pretrained.pt"
    torch.save(pretrained.state_dict(), weights)
    backbone = small_net(outputs=8)
    backbone.load_state_dict(torch.load(weights))
    model = FineTuned(backbone).train()
    fit(run, model, data, parameters=[p for p in model.parameters() if p.requires_grad])


class TwoHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = small_net(outputs=8)
        self.seizure = nn.Linear(8, 1)
        self.sleep_stage = nn.Linear(8, 5)

    def forward(self, x, task="seizure"):
        return getattr(self, task)(self.encoder(x))


def unused_on_purpose(run):
    """The head of a task that is not trained here stays in the model and in the optimizer."""
    data = load(run)
    fit(run, TwoHeads(), data)


def weight_normalized(run):
    """The weights are computed from two parametrizing tensors."""
    data = load(run)
    model = nn.Sequential(parametrizations.weight_norm(nn.Conv1d(4, 8, 5)), nn.ReLU(), nn.Flatten(), nn.Linear(480, 1))
    fit(run, model, data)


def spectral_normalized(run):
    """Power iteration moves buffers in each forward pass in train mode."""
    data = load(run)
    model = nn.Sequential(nn.Flatten(), parametrizations.spectral_norm(nn.Linear(256, 8)), nn.Tanh(), nn.Linear(8, 1))
    fit(run, model, data)


class Siamese(nn.Module):
    def __init__(self):
        super().__init__()
        self.branch = small_net(outputs=4)
        self.spare = nn.Identity()
        self.head = nn.Linear(8, 1)

    def forward(self, x):
        left, right = self.branch(x[:, [0, 1, 0, 1]]), self.branch(x[:, [2, 3, 2, 3]])
        return self.head(torch.cat([left, right], dim=1))


def module_called_twice(run):
    """One branch is called twice per forward pass; another module is never called."""
    data = load(run)
    fit(run, Siamese(), data)


def compiled(run):
    """The model is wrapped by torch.compile; the optimizer holds the parameters of the original."""
    data = load(run)
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 8), nn.ReLU(), nn.Linear(8, 1))
    fit(run, model, data, forward=torch.compile(model, backend="eager"))
    torch.save(model.state_dict(), Path(run.workdir) / "compiled.pt")


class Parallel(nn.Module):
    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, x):
        parts = [self.module(part) for part in x.chunk(2)]
        return torch.cat(parts)


def wrapped(run):
    """A wrapper splits each batch over two (imaginary) devices; checkpoints hold the inner module."""
    data = load(run)
    model = Parallel(small_net())
    fit(run, model, data)
    torch.save(model.module.state_dict(), Path(run.workdir) / "inner.pt")


class WithStep(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = small_net()

    def training_step(self, x, y):
        return F.binary_cross_entropy_with_logits(self.net.forward(x).squeeze(-1), y)


def training_step_method(run):
    """The model has no forward; a method computes the loss and calls the layers' forward directly."""
    x, y, *_ = load(run)
    model = WithStep()
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for _, batch in zip(range(run.max_steps), batches(x, y, run.seed), strict=False):
        optimizer.zero_grad()
        model.training_step(*batch).backward()
        optimizer.step()


def functional(run):
    """Parameters live in a dict outside the module; gradients come from torch.func."""
    x, y, *_ = load(run)
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 8), nn.Tanh(), nn.Linear(8, 1))
    parameters = {name: p.detach().clone() for name, p in model.named_parameters()}

    def loss_of(parameters, xb, yb):
        logits = torch.func.functional_call(model, parameters, (xb,)).squeeze(-1)
        return F.binary_cross_entropy_with_logits(logits, yb)

    for _, (xb, yb) in zip(range(run.max_steps), batches(x, y, run.seed), strict=False):
        gradients = torch.func.grad(loss_of)(parameters, xb, yb)
        parameters = {name: p - 0.05 * gradients[name] for name, p in parameters.items()}


def meta_learning(run):
    """MAML: an inner step on one patient, the outer gradient through it (second order)."""
    x, y, *_ = load(run)
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 8), nn.Tanh(), nn.Linear(8, 1))
    outer = torch.optim.Adam(model.parameters(), 1e-3)
    patients = list(zip(x.split(10), y.split(10), strict=True))

    def loss_with(parameters, xb, yb):
        return F.binary_cross_entropy_with_logits(torch.func.functional_call(model, parameters, (xb,)).squeeze(-1), yb)

    for step in range(run.max_steps):
        xp, yp = patients[step % len(patients)]
        parameters = dict(model.named_parameters())
        gradients = torch.autograd.grad(
            loss_with(parameters, xp[::2], yp[::2]), list(parameters.values()), create_graph=True
        )
        adapted = {name: p - 0.1 * g for (name, p), g in zip(parameters.items(), gradients, strict=True)}
        outer.zero_grad()
        loss_with(adapted, xp[1::2], yp[1::2]).backward()
        outer.step()


class Stateful(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.LSTM(4, 8, batch_first=True)
        self.head = nn.Linear(8, 1)

    def forward(self, x, state=None):
        h, state = self.cell(x.transpose(1, 2), state)
        return self.head(h[:, -1]), state


def carried_state(run):
    """Recordings are read in order; the hidden state goes from window to window, detached."""
    x, y, *_ = load(run)
    x_PN, y_PN = x.reshape(4, 10, 4, 64), y.reshape(4, 10)
    model = Stateful()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    state = None
    for step in range(run.max_steps):
        window = step % 10
        if window == 0:
            state = None
        logits, state = model(x_PN[:, window], state)
        state = tuple(part.detach() for part in state)
        loss = F.binary_cross_entropy_with_logits(logits.squeeze(-1), y_PN[:, window])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()


class StraightThrough(torch.autograd.Function):
    """Round forward, pass the gradient backward."""

    @staticmethod
    def forward(ctx, x):
        return x.round()

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class Quantized(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = small_net(outputs=8)
        self.head = nn.Linear(8, 1)

    def forward(self, x):
        return self.head(StraightThrough.apply(self.encoder(x)))


def custom_function(run):
    """A custom autograd function rounds forward and passes gradients through."""
    data = load(run)
    fit(run, Quantized(), data)


def checkpointed(run):
    """Gradient checkpointing runs the encoder twice per step."""
    data = load(run)
    encoder = nn.Sequential(nn.Conv1d(4, 8, 5), nn.GELU(), nn.Dropout(0.1), nn.Flatten())
    head = nn.Linear(480, 1)
    model = nn.ModuleDict({"encoder": encoder, "head": head})
    fit(run, model, data, forward=lambda x: head(checkpoint(encoder, x, use_reentrant=False)))


def bfloat16_autocast(run):
    """The forward pass is in bfloat16, weights stay in float32, no scaler (none is needed)."""
    data = load(run)
    model = nn.Sequential(nn.Conv1d(4, 8, 5), nn.ReLU(), nn.Flatten(), nn.Linear(480, 1))

    def forward(x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return model(x).float()

    fit(run, model, data, forward=forward)


def lazy_layers(run):
    """Lazy layers take their shape from a dry run, before the optimizer is built."""
    data = load(run)
    model = nn.Sequential(nn.LazyConv1d(8, 5), nn.ReLU(), nn.Flatten(), nn.LazyLinear(1))
    with torch.no_grad():
        model(data[0][:2])
    fit(run, model, data)


def batch_statistics(run):
    """Batch normalization in the head as well: in training, every example depends on its batch."""
    data = load(run)
    model = nn.Sequential(small_net(outputs=8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1))
    fit(run, model, data)
    print(accuracy(model, *data[2:]))


def monte_carlo_dropout(run):
    """Evaluation keeps dropout active on purpose and averages several passes; everything else is in eval mode."""
    data = load(run)
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 1))
    fit(run, model, data)
    model.eval()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.train()
    with torch.no_grad():
        draws = torch.stack([torch.sigmoid(model(data[2])) for _ in range(5)])
    print("uncertainty", draws.std(0).mean().item())


def thaw_later(run):
    """The encoder is frozen for three steps, then thawed and given to the optimizer as a new group."""
    x, y, *_ = load(run)
    model = nn.ModuleDict({"encoder": small_net(outputs=8), "head": nn.Linear(8, 1)})
    model["encoder"].requires_grad_(False)
    optimizer = torch.optim.Adam(model["head"].parameters(), 1e-2)
    for step, (xb, yb) in zip(range(run.max_steps), batches(x, y, run.seed), strict=False):
        if step == 3:
            model["encoder"].requires_grad_(True)
            optimizer.add_param_group({"params": model["encoder"].parameters(), "lr": 1e-3})
        loss = F.binary_cross_entropy_with_logits(model["head"](model["encoder"](xb)).squeeze(-1), yb)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def distilled(run):
    """A teacher in eval mode guides a smaller student; only the student is optimized."""
    x, y, *_ = load(run)
    teacher = small_net(width=16).eval()
    student = copy.deepcopy(small_net(width=4))
    optimizer = torch.optim.SGD(student.parameters(), 0.1)
    for _, (xb, yb) in zip(range(run.max_steps), batches(x, y, run.seed), strict=False):
        with torch.no_grad():
            soft = torch.sigmoid(teacher(xb).squeeze(-1))
        loss = F.binary_cross_entropy_with_logits(student(xb).squeeze(-1), 0.5 * soft + 0.5 * yb)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


MODEL = small_net(width=4)


def module_level_model(run):
    """The model is a global of the module, built when the module is imported."""
    data = load(run)
    for layer in MODEL:
        if hasattr(layer, "reset_parameters"):
            layer.reset_parameters()
    fit(run, MODEL, data)


class CausalConv(nn.Conv1d):
    def forward(self, x):
        return super().forward(F.pad(x, ((self.kernel_size[0] - 1) * self.dilation[0], 0)))


def causal_network(run):
    """A network declared causal that pads on the left only, one logit per sample."""
    x, y, *_ = load(run)
    model = nn.Sequential(
        CausalConv(4, 8, 5), nn.ReLU(), CausalConv(8, 8, 5, dilation=2), nn.ReLU(), CausalConv(8, 1, 1)
    )
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for _, (xb, yb) in zip(range(run.max_steps), batches(x, y, run.seed), strict=False):
        logits = model(xb).squeeze(1)
        loss = F.binary_cross_entropy_with_logits(logits, yb[:, None].expand_as(logits))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
