"""Healthy trainers whose loss or labels are unusual."""

import torch
import torch.nn.functional as F
from torch import nn

from zoo.healthy.common import batches, load, small_net


def descend(run, parameters, loss_of, data, *, lr=3e-3):
    """Minimize ``loss_of(xb, yb)`` with Adam."""
    optimizer = torch.optim.Adam(parameters, lr)
    for _, batch in zip(range(run.max_steps), batches(*data[:2], run.seed), strict=False):
        optimizer.zero_grad()
        loss = loss_of(*batch)
        loss.backward()
        optimizer.step()


def gradient_penalty(run):
    """The loss holds the norm of its own gradient with respect to the input (double backward)."""
    data = load(run)
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 16), nn.Softplus(), nn.Linear(16, 1))

    def loss_of(x, y):
        x = x.clone().requires_grad_()
        logits = model(x).squeeze(-1)
        (slope,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
        return F.binary_cross_entropy_with_logits(logits, y) + 0.1 * slope.flatten(1).norm(dim=1).mean()

    descend(run, model.parameters(), loss_of, data)


def contrastive(run):
    """SimCLR: two noisy views, no labels; the batch is compared with itself on purpose."""
    data = load(run)
    model = small_net(outputs=8)

    def loss_of(x, _y):
        a = F.normalize(model(x + 0.1 * torch.randn_like(x)), dim=1)
        b = F.normalize(model(x * (0.8 + 0.4 * torch.rand(len(x), 1, 1))), dim=1)
        similarity = a @ b.t() / 0.2
        return F.cross_entropy(similarity, torch.arange(len(x)))

    descend(run, model.parameters(), loss_of, data)


def mixup(run):
    """Inputs and labels are mixed in pairs, so labels are soft."""
    data = load(run)
    model = small_net()
    beta = torch.distributions.Beta(0.4, 0.4)

    def loss_of(x, y):
        share, partner = beta.sample(), torch.randperm(len(x))
        logits = model(share * x + (1 - share) * x[partner]).squeeze(-1)
        return F.binary_cross_entropy_with_logits(logits, share * y + (1 - share) * y[partner])

    descend(run, model.parameters(), loss_of, data)


def label_smoothing(run):
    """Two logits, cross entropy with smoothed labels."""
    data = load(run)
    model = small_net(outputs=2)
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    descend(run, model.parameters(), lambda x, y: criterion(model(x), y.long()), data)


class MultiTask(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = small_net(outputs=8)
        self.seizure, self.power = nn.Linear(8, 1), nn.Linear(8, 4)
        self.log_variance = nn.Parameter(torch.zeros(2))

    def forward(self, x):
        z = self.trunk(x)
        return self.seizure(z).squeeze(-1), self.power(z)


def multi_task(run):
    """Two losses weighted by learned uncertainties."""
    data = load(run)
    model = MultiTask()

    def loss_of(x, y):
        logits, power = model(x)
        losses = torch.stack([F.binary_cross_entropy_with_logits(logits, y), F.mse_loss(power, x.var(-1).log1p())])
        return (losses * torch.exp(-model.log_variance) + model.log_variance).sum()

    descend(run, model.parameters(), loss_of, data)


def negative_loss(run):
    """A Gaussian likelihood of small residuals is negative."""
    data = load(run)
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 16), nn.Tanh(), nn.Linear(16, 2))

    def loss_of(x, _y):
        mean, log_scale = model(x).unbind(1)
        target = 0.01 * x.std((1, 2))
        return F.gaussian_nll_loss(mean * 0.1, target, (2 * log_scale.clamp(-6, 2)).exp() * 1e-2)

    descend(run, model.parameters(), loss_of, data)


def correlation_reward(run):
    """Minus a correlation: the loss is negative and falls below zero on purpose."""
    data = load(run)
    model = small_net()

    def loss_of(x, _y):
        predicted, wanted = model(x).squeeze(-1), x.abs().mean((1, 2))
        return -F.cosine_similarity(predicted - predicted.mean(), wanted - wanted.mean(), dim=0)

    descend(run, model.parameters(), loss_of, data)


def regression(run):
    """A real-valued target in physical units, Huber loss."""
    data = load(run)
    model = small_net()
    descend(run, model.parameters(), lambda x, y: F.huber_loss(model(x).squeeze(-1), 100 * x.std((1, 2))), data)


def padding_masks(run):
    """Windows have unequal length; attention and loss both honor the mask."""
    data = load(run)
    embed = nn.Linear(4, 16)
    layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
    head = nn.Linear(16, 1)
    model = nn.ModuleList([embed, layer, head])

    def loss_of(x, y):
        lengths = torch.randint(32, 65, (len(x),))
        padding = torch.arange(64)[None] >= lengths[:, None]
        tokens = embed(x.transpose(1, 2)).masked_fill(padding[..., None], 0.0)
        logits = head(layer(tokens, src_key_padding_mask=padding)).squeeze(-1)
        losses = F.binary_cross_entropy_with_logits(logits, y[:, None].expand_as(logits), reduction="none")
        return losses.masked_fill(padding, 0.0).sum() / (~padding).sum()

    descend(run, model.parameters(), loss_of, data)


def class_weights(run):
    """The rare class weighs more, in proportion to its rarity."""
    data = load(run)
    model = small_net()
    share = data[1].mean()
    criterion = nn.BCEWithLogitsLoss(pos_weight=(1 - share) / share)
    descend(run, model.parameters(), lambda x, y: criterion(model(x).squeeze(-1), y), data)


def focal(run):
    """Probabilities are computed inside the loss, which then works on them correctly."""
    data = load(run)
    model = small_net()

    def loss_of(x, y):
        probability = torch.sigmoid(model(x).squeeze(-1))
        right = torch.where(y > 0.5, probability, 1 - probability).clamp(1e-6, 1)
        return (-((1 - right) ** 2) * right.log()).mean()

    descend(run, model.parameters(), loss_of, data)


def probabilities(run):
    """The model ends in a sigmoid and the loss wants probabilities: BCELoss, not BCEWithLogitsLoss."""
    data = load(run)
    model = nn.Sequential(small_net(), nn.Sigmoid())
    criterion = nn.BCELoss()
    descend(run, model.parameters(), lambda x, y: criterion(model(x).squeeze(-1), y), data)


def log_probabilities(run):
    """log_softmax and nll_loss: softmax is there once."""
    data = load(run)
    model = nn.Sequential(small_net(outputs=2), nn.LogSoftmax(dim=1))
    descend(run, model.parameters(), lambda x, y: F.nll_loss(model(x), y.long()), data)


def summed_over_valid(run):
    """reduction='sum', divided by the number of examples by hand."""
    data = load(run)
    model = small_net()

    def loss_of(x, y):
        return F.binary_cross_entropy_with_logits(model(x).squeeze(-1), y, reduction="sum") / len(y)

    descend(run, model.parameters(), loss_of, data)


def autoencoder(run):
    """The input is its own target; labels are never read."""
    data = load(run)
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 8), nn.ReLU(), nn.Linear(8, 256), nn.Unflatten(1, (4, 64)))
    descend(run, model.parameters(), lambda x, y: F.mse_loss(model(x), x), data)


def variational(run):
    """Random draws inside the forward pass, in eval mode too."""
    data = load(run)
    encode, decode = nn.Linear(256, 16), nn.Linear(8, 256)

    def loss_of(x, _y):
        mean, log_variance = encode(x.flatten(1)).chunk(2, dim=1)
        z = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        divergence = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(1).mean()
        return F.mse_loss(decode(z), x.flatten(1)) + 1e-3 * divergence

    descend(run, [*encode.parameters(), *decode.parameters()], loss_of, data)


def sparse_embedding(run):
    """An embedding of the patient with sparse gradients: only the rows of the batch get any."""
    x, y, *_ = load(run)
    patient = torch.arange(len(x)) // 10
    table = nn.Embedding(50, 8, sparse=True)
    encoder, head = small_net(outputs=8), nn.Linear(8, 1)
    sparse = torch.optim.SparseAdam(table.parameters(), 1e-2)
    dense = torch.optim.Adam([*encoder.parameters(), *head.parameters()], 1e-3)
    for _, (xb, row) in zip(range(run.max_steps), batches(x, torch.arange(len(x)), run.seed), strict=False):
        logits = head(encoder(xb) + table(patient[row])).squeeze(-1)
        loss = F.binary_cross_entropy_with_logits(logits, y[row])
        sparse.zero_grad()
        dense.zero_grad()
        loss.backward()
        sparse.step()
        dense.step()


def policy_gradient(run):
    """REINFORCE: the loss is a score times a reward, its value means nothing and its sign changes."""
    data = load(run)
    model = small_net()

    def loss_of(x, y):
        policy = torch.distributions.Bernoulli(logits=model(x).squeeze(-1))
        action = policy.sample()
        reward = (action == y).float()
        return -(policy.log_prob(action) * (reward - reward.mean())).mean()

    descend(run, model.parameters(), loss_of, data)


def backward_of_many(run):
    """Two losses, two backward calls, one step: the sum is meant."""
    x, y, *_ = load(run)
    model = small_net(outputs=2)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _, (xb, yb) in zip(range(run.max_steps), batches(x, y, run.seed), strict=False):
        logits = model(xb)
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(logits[:, 0], yb).backward(retain_graph=True)
        F.mse_loss(logits[:, 1], xb.std((1, 2))).backward()
        optimizer.step()
