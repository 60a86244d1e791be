"""Model of the bare trainer: a small convolutional encoder with a skip branch and a per-sample head."""

import torch
import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    def __init__(self, n_in, n_out, faults):
        super().__init__()
        self.faults = faults
        self.conv = nn.Conv1d(n_in, n_out, 5, padding=2)
        self.norm = nn.BatchNorm1d(n_out, momentum=0.0 if "batchnorm-momentum-zero" in faults else 0.1)
        if "batchnorm-forgets" in faults:
            self.norm = nn.BatchNorm1d(n_out, track_running_stats=False)
        self.drop = nn.Dropout(0.2)

    def forward(self, x_BCT):
        x_BCT = F.relu(self.norm(self.conv(x_BCT)))
        if "dropout-always-on" in self.faults:
            return F.dropout(x_BCT, 0.2)
        return self.drop(x_BCT)


class Net(nn.Module):
    """Map (B, 4, T) to one logit per sample, (B, T)."""

    def __init__(self, faults, width=8):
        super().__init__()
        self.faults = faults
        blocks = [Block(4, width, faults), Block(width, width, faults)]
        self.encoder = nn.Sequential(*blocks[:1]) if "layers-in-list" in faults else nn.Sequential(*blocks)
        self.hidden_blocks = blocks[1:] if "layers-in-list" in faults else []
        self.skip = nn.Conv1d(4, width, 1)
        self.head = nn.Conv1d(width, 1, 1)
        if "constant-init" in faults:
            nn.init.constant_(blocks[0].conv.weight, 0.05)
            nn.init.constant_(blocks[0].conv.bias, 0.0)
            nn.init.constant_(blocks[1].conv.weight, 0.05)
            nn.init.constant_(blocks[1].conv.bias, 0.0)
        if "dead-relu" in faults:
            nn.init.constant_(blocks[1].norm.bias, -100.0)
        if "gradient-hook-zeroes-encoder" in faults:
            for parameter in self.encoder.parameters():
                parameter.register_hook(torch.zeros_like)
        if "gradient-nan-to-num" in faults:
            for parameter in self.parameters():
                parameter.register_hook(torch.nan_to_num)
        self.seen = []

    def forward(self, x_BCT):
        z_BDT = self.encoder(x_BCT)
        for block in self.hidden_blocks:
            z_BDT = block(z_BDT)
        if "detached-encoder" in self.faults:
            z_BDT = z_BDT.detach()
        if "numpy-round-trip" in self.faults:
            z_BDT = torch.from_numpy(z_BDT.detach().cpu().numpy())
        if "gradient-nan-to-num" in self.faults:
            # The root of zero has an infinite slope: every gradient of the encoder is NaN, and the hooks hide it.
            z_BDT = z_BDT + 0.1 * (z_BDT - z_BDT.detach()).square().sum(1, keepdim=True).sqrt()
        if "activations-cached" in self.faults:
            self.seen.append(z_BDT)
        if "skip-branch-unused" not in self.faults:
            z_BDT = z_BDT + self.skip(x_BCT)
        logits_BT = self.head(z_BDT).squeeze(1)
        if "attention-over-batch" in self.faults:
            logits_BT = logits_BT * torch.softmax(logits_BT, dim=0)
        if "logits-nan-to-num" in self.faults:
            logits_BT = torch.nan_to_num(logits_BT)
        if "sigmoid-before-logits-loss" in self.faults:
            logits_BT = torch.sigmoid(logits_BT)
        return logits_BT
