"""Encoder, decoder with an auxiliary head, losses that leave out the ignored."""

import torch
import torch.nn.functional as F
from torch import nn

from .registry import MODELS


@MODELS.register
class TinyResNet(nn.Module):
    def __init__(self, width, norm_eval):
        super().__init__()
        self.norm_eval = norm_eval
        self.layer1 = nn.Sequential(
            nn.Conv2d(3, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        )
        self.layer2 = nn.Sequential(
            nn.Conv2d(width, 2 * width, 3, 1, 2, dilation=2, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(inplace=True),
        )
        self.fc = nn.Linear(2 * width, 10)  # for pretraining on whole images; segmentation leaves it alone

    def forward(self, x):
        one = self.layer1(x)
        return one, self.layer2(one)


@MODELS.register
class FCNHead(nn.Module):
    def __init__(self, in_channels, num_classes, dropout, loss_weight):
        super().__init__()
        self.conv, self.drop, self.seg = (
            nn.Conv2d(in_channels, 8, 3, padding=1),
            nn.Dropout2d(dropout),
            nn.Conv2d(8, num_classes, 1),
        )
        self.loss_weight = loss_weight

    def forward(self, x):
        return self.seg(self.drop(F.relu(self.conv(x))))

    def losses(self, logit, label):
        logit = F.interpolate(logit, size=label.shape[-2:], mode="bilinear", align_corners=False)
        valid = label != 255
        return {
            "loss_ce": self.loss_weight * F.cross_entropy(logit, label, ignore_index=255),
            "acc_seg": (logit.argmax(1) == label)[valid].float().mean() * 100 if valid.any() else torch.zeros(()),
        }


@MODELS.register
class EncoderDecoder(nn.Module):
    def __init__(self, backbone, decode_head, auxiliary_head=None):
        super().__init__()
        self.backbone, self.decode_head, self.auxiliary_head = (
            MODELS.build(backbone),
            MODELS.build(decode_head),
            MODELS.build(auxiliary_head),
        )

    def forward(self, img, gt=None, return_loss=True):
        return self.forward_train(img, gt) if return_loss else self.simple_test(img)

    def forward_train(self, img, gt):
        one, two = self.backbone(img)
        out = {f"decode.{k}": v for k, v in self.decode_head.losses(self.decode_head(two), gt).items()}
        out.update({f"aux.{k}": v for k, v in self.auxiliary_head.losses(self.auxiliary_head(one), gt).items()})
        return out

    def simple_test(self, img):
        logit = self.decode_head(self.backbone(img)[1])
        return F.interpolate(logit, size=img.shape[-2:], mode="bilinear").softmax(1).argmax(1)

    def train_step(self, batch):
        losses = self(*batch)
        loss = sum(v for k, v in losses.items() if "loss" in k)
        return {"loss": loss, "log_vars": {k: float(v) for k, v in losses.items()}, "num_samples": len(batch[0])}
