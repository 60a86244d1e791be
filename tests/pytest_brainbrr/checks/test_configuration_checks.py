"""What configurations say, against what is in force."""

import pytest
from training_traces import Story, module, only, passed, vacuous

from pytest_brainbrr.configurations import kind_of


def told(
    values, kind="torch.optim.sgd.SGD", modules=(), undeclared=(), clip=None, source="variable", every=1, **options
):
    """A run of three steps of one optimizer, with a configuration at hand."""
    story = Story(modules=modules)
    story.add("configuration", source=source, name="cfg", values=values, undeclared=list(undeclared))
    story.optimizer(kind=kind, **options)
    for _ in range(3):
        for _ in range(every):
            story.backward([story.forward()])
        if clip is not None:
            story.add("clip", function="clip_grad_norm_", limit=clip)
        story.stepped(**options)
    story.ended()
    return story


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ({"lr": 0.02}, "learning rate"),
        ({"optim.learning_rate": 0.02}, "learning rate"),
        ({"weight_decay": 0.02}, "weight_decay"),
        ({"weigth_decay": 0.02}, "weight_decay"),
        ({"momentum": 0.9}, "momentum"),
        ({"accumulation_steps": 4}, "accumulation"),
        ({"optimizer": "Adam"}, "optimizer"),
        ({"optimizer.name": "torch.optim.Adam"}, "optimizer"),
    ],
)
def test_what_is_told_and_not_in_force(values, where):
    found = only("configuration-echo", told(values, lr=0.3, weight_decay=0.0, momentum=0.0))
    assert (found.severity, found.where) == ("warning", where)


@pytest.mark.parametrize(
    "values",
    [
        {"lr": 0.3},
        {"lr": 0.3, "finetune.lr": 0.01},
        {"lr": 0.6, "lr_scale": 0.5},
        {"lr": 0.02, "peak": 0.3},
        {"lr": 2.4, "batch_size": 32},
        {"critic.lr": 0.02},
        {"lr": 0.02, "generator.lr": 0.3},
        {"lr": 0.02, "base_lr": 0.05},
        {"lr": "auto", "weight_decay": None, "momentum": 0.0},
        {"optimizer": "lion", "dropouts": 0.4, "accumulation_steps": 1},
    ],
)
def test_what_explains_itself(values):
    assert passed("configuration-echo", told({"weight_decay": 0.0, **values}, lr=0.3, weight_decay=0.0, momentum=0.0))


def test_the_default_of_the_class_in_place_of_the_rate():
    found = only("configuration-echo", told({"lr": 0.07}, kind="torch.optim.adam.Adam", lr=1e-3))
    assert (found.severity, found.evidence["key"]) == ("error", "cfg.lr")


def test_a_misspelt_key_is_called_so():
    found = only("configuration-echo", told({"weigth_decay": 0.02}, lr=0.3, weight_decay=0.0))
    assert "misspelt" in found.cause


def test_a_limit_for_gradients():
    assert only("configuration-echo", told({"max_grad_norm": 0.5}, clip=5.0)).where == "clipping"
    assert passed("configuration-echo", told({"max_grad_norm": 0.5}, clip=0.5))
    assert only("configuration-echo", told({"max_grad_norm": 0.5})).where == "clipping"
    assert passed("configuration-echo", told({"max_grad_norm": 500.0}))
    assert "no configuration" in vacuous("configuration-echo", told({"clip": 0.5}))


def test_accumulation_that_is_done():
    assert passed("configuration-echo", told({"accumulation_steps": 4}, every=4))


def test_betas_and_dropout():
    layer = [module("drop", "Dropout", (), p=0.5)]
    assert only("configuration-echo", told({"betas": [0.8, 0.9]}, betas=[0.9, 0.999])).where == "betas"
    assert passed("configuration-echo", told({"betas": [0.8, 0.9]}, betas=[0.8, 0.9]))
    assert only("configuration-echo", told({"dropout": 0.1}, modules=layer)).severity == "error"
    assert passed("configuration-echo", told({"dropout": 0.1, "head_dropout": 0.5}, modules=layer))


def test_an_attribute_that_the_settings_do_not_have():
    values = {"lr": 0.3, "learning_rate": 0.05}
    found = only("configuration-echo", told(values, undeclared=["learning_rate"], lr=0.3))
    assert "'lr'" in found.cause
    assert passed("configuration-echo", told(values, undeclared=["learning_rate"], lr=0.05))


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("LR", ("rate", False)),
        ("learningRate", ("rate", False)),
        ("leraning_rate", ("rate", True)),
        ("droput", ("dropout", True)),
        ("batchsize", ("batch", False)),
        ("batch_norm", (None, False)),
        ("dropout2", (None, False)),
        ("beta", (None, False)),
        ("epochs", (None, False)),
        ("momentums", (None, False)),
    ],
)
def test_names(key, kind):
    assert kind_of(key) == kind
