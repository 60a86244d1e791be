"""Faults of the model."""

from zoo.trainers.ours.planting import plants


@plants
def head_detached():
    from brainbrr.models.head import Head

    original = Head.forward
    yield Head, "forward", lambda self, features: original(self, features.detach())


def _changed_model(change):
    from brainbrr.training import session

    original = session.build_detector

    def build_detector(*args, **options):
        model = original(*args, **options)
        change(model)
        return model

    yield session, "build_detector", build_detector


@plants
def encoder_frozen():
    yield from _changed_model(lambda model: model.encoder.requires_grad_(False))


@plants
def statistics_frozen():
    def change(model):
        for module in model.modules():
            if hasattr(module, "momentum"):
                module.momentum = 0.0

    yield from _changed_model(change)


@plants
def constant_start():
    def change(model):
        model.encoder.mix.weight.data.fill_(0.1)

    yield from _changed_model(change)


@plants
def branch_cut():
    from brainbrr.models.tcn import Block

    yield Block, "forward", lambda self, x: self.straight(x)


@plants
def skip_cut():
    from brainbrr.models.unet import Up

    original = Up.forward
    yield Up, "forward", lambda self, x, skip: original(self, x, skip.detach() * 0)


@plants
def bottleneck_branch_unused():
    from brainbrr.models.unet import Bottleneck

    yield Bottleneck, "forward", lambda self, x: x + self.dropout(self.branches[0](x))


@plants
def batch_mixed():
    from brainbrr.models.bimamba import BiMamba2

    original = BiMamba2.forward
    yield BiMamba2, "forward", lambda self, x: original(self, x - x.mean(0, keepdim=True))


@plants
def dropout_always_on():
    from brainbrr.models.head import Head
    from torch.nn import functional

    original = Head.forward
    yield Head, "forward", lambda self, x: original(self, functional.dropout(x, 0.3))


@plants
def never_in_training_mode():
    from brainbrr.models.detector import Detector
    from torch import nn

    yield Detector, "train", lambda self, mode=True: nn.Module.train(self, False)


@plants
def reverse_not_flipped_back():
    import torch
    from brainbrr.models.bimamba import BiMamba2Layer

    def forward(self, x):
        mixed = self.projection(torch.cat([self.forward_mamba(x), self.backward_mamba(x.flip(1))], dim=-1))
        return self.norm(x + self.dropout(mixed))

    yield BiMamba2Layer, "forward", forward
