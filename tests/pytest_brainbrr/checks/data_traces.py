# ruff: noqa: E501 (events read best on one line)
"""Tiny traces written by hand: a loader over ten samples, a model, steps, validation. Every fact can be changed."""

import itertools
import zlib

from pytest_brainbrr.trace import Trace

SHAPE = (4, 8)


def digest(*things):
    return f"{zlib.crc32(repr(things).encode()):08x}"


def fact(at, rows, *, shape=SHAPE, dtype="float32", row_means=None, **changes):
    """Facts of a tensor whose rows are named by ``rows``."""
    rows = list(rows)
    facts = {
        "at": at,
        "shape": [len(rows), *shape],
        "dtype": dtype,
        "device": "cpu",
        "requires_grad": False,
        "grad_fn": False,
        "digest": digest(at if dtype != "float32" else "x", rows),
        "samples": [digest("row", row) for row in rows],
        "finite": True,
        "min": -1.0,
        "max": 1.0,
        "mean": 0.0,
        "rms": 1.0,
        "constant": False,
        "values": None,
        "row_means": row_means,
    }
    return facts | changes


def label(at, values, **changes):
    """Facts of one label per row."""
    values = [float(value) for value in values]
    mean = sum(values) / len(values)
    facts = fact(at, [("label", value) for value in values], shape=(), row_means=values, values=sorted(set(values)))
    facts |= {"min": min(values), "max": max(values), "mean": mean, "constant": min(values) == max(values)}
    facts |= {"digest": digest("label", values)}
    return facts | changes


class Story:
    """Write events in order; ``trace()`` reads them."""

    def __init__(self, **process):
        self.events = []
        self.step = 0
        self.calls = itertools.count()
        self.losses = itertools.count()
        self.add(
            "process", plan="straight", seed=0, max_steps=6, resume_from=None, data="normal", limit=None, **process
        )

    def add(self, kind, **fields):
        event = {"kind": kind, "n": len(self.events), "t": float(len(self.events)), "pid": 1, "role": "main"}
        event |= {"step": self.step, "after": False} | fields
        self.events.append(event)
        return event

    def loader(self, name="l1", dataset="d1", **changes):
        facts = {
            "id": name, "dataset": dataset, "batch_size": 2, "batches": 5, "sampler": "RandomSampler", "sampler_kind": "random",
            "replacement": False, "weights": None, "num_samples": 10, "shuffle": None, "drop_last": False, "workers": 0,
            "generator": False, "worker_init": False, "persistent_workers": False, "distributed": None,
        }  # fmt: skip
        return self.add("loader", **(facts | changes))

    def dataset(self, name="d1", length=10, base=None, subset=None, **changes):
        facts = {
            "id": name,
            "class": "Windows",
            "length": length,
            "base": base or name,
            "subset": subset,
            "iterable": False,
        }
        return self.add("dataset", **(facts | changes))

    def begin(self, loader="l1", number=1, name=None, sampler_epoch=None):
        name = name or f"{loader}-i{number}"
        self.add("epoch", id=name, loader=loader, action="begin", number=number, batches=0, sampler_epoch=sampler_epoch)
        return name

    def end(self, loader="l1", number=1, batches=0, action="end", sampler_epoch=None):
        name = f"{loader}-i{number}"
        self.add(
            "epoch", id=name, loader=loader, action=action, number=number, batches=batches, sampler_epoch=sampler_epoch
        )

    def batch(
        self, indices, *, loader="l1", epoch="l1-i1", position=0, x=None, y=None, split="train", tensors=None, **others
    ):
        x = fact("0", [(split, index) for index in indices]) if x is None else x
        y = label("1", [index % 2 for index in indices]) if y is None else y
        return self.add(
            "batch", loader=loader, epoch=epoch, position=position, indices=list(indices), base_indices=list(indices),
            size=len(indices), tensors=tensors if tensors is not None else [x, y], others=others,
        )  # fmt: skip

    def forward(self, batch=None, *, training=True, grad=True, x=None, model="m1", outputs=None):
        given = [dict(batch["tensors"][0], at="0")] if x is None else [x]
        rows = given[0]["shape"][0]
        return self.add(
            "forward", call=next(self.calls), model=model, path="", **{"class": "Net"}, training=training, mixed_modes=[], grad_enabled=grad,
            inference_mode=False, autocast=None, inputs=given, outputs=outputs or [fact("0", range(rows), shape=(), dtype="out")],
            seconds=0.0, raised=None, inner=None, inner_numbers=False,
            loader=[batch["epoch"], batch["position"]] if batch else None,
        )  # fmt: skip

    def loss(
        self,
        call,
        target,
        *,
        target_from=None,
        grad=True,
        value=0.5,
        function="binary_cross_entropy_with_logits",
        given=None,
    ):
        given = given or dict(call["outputs"][0], at="input")
        return self.add(
            "loss", call=next(self.losses), function=function, by="net", inside=None, reduction="mean", options={},
            args=[given, dict(target, at="target")],
            output=fact("0", [0], shape=()) | {"shape": [], "mean": value, "samples": None, "min": value, "max": value},
            input_from=call["call"], target_from=target_from, probability_like=False, target_grad=False, grad_enabled=grad,
            positives=None, positive_input_mean=None, negative_input_mean=None,
        )  # fmt: skip

    def backward(self, *calls, losses=(), value=0.5, scale=None):
        return self.add(
            "backward", call=0, function="backward", root={"mean": value, "shape": [], "digest": digest(value)}, roots=1, by="net",
            forwards=[call["call"] for call in calls], losses=[loss["call"] for loss in losses], scale=scale, in_step=False,
        )  # fmt: skip

    def optimize(self, optimizer="o1", **fields):
        self.step += 1
        return self.add("step", optimizer=optimizer, count=self.step, groups=[{"lr": 0.1}], parameters=[], **fields)

    def train(self, indices, position=0, *, epoch="l1-i1", **batch):
        """One healthy training step on these samples."""
        batch = self.batch(indices, epoch=epoch, position=position, **batch)
        call = self.forward(batch)
        loss = self.loss(call, batch["tensors"][1], target_from=[batch["epoch"], batch["position"], "1"])
        self.backward(call, losses=[loss])
        self.optimize()
        return batch

    def validate(self, indices, position=0, *, loader="l2", epoch="l2-i1", split="val", x=None, value=0.5, **batch):
        """One batch of validation on these samples."""
        batch = self.batch(indices, loader=loader, epoch=epoch, position=position, split=split, **batch)
        call = self.forward(batch, training=False, grad=False, x=x)
        self.loss(call, batch["tensors"][1], target_from=[epoch, position, "1"], grad=False, value=value)
        return batch

    def trace(self, how="returned"):
        code = {"raised": 1, "system_exit": 1}.get(how, 0)
        done = {
            "kind": "exit",
            "n": len(self.events),
            "t": 0.0,
            "pid": 1,
            "role": "main",
            "step": self.step,
            "after": True,
        }
        done |= {"how": how, "code": code, "exception": None, "message": "", "last_lines": [], "steps": self.step}
        return Trace([*self.events, done])


def healthy(**changes):
    """Return a story of six steps over ten samples with two validations on others."""
    story = Story()
    story.dataset("d1"), story.dataset("d2", length=4)
    (
        story.loader("l1", "d1"),
        story.loader("l2", "d2", sampler="SequentialSampler", sampler_kind="sequential", num_samples=4, batches=2),
    )
    order = [[3, 7], [1, 0], [9, 2], [4, 6], [5, 8], [2, 4]]
    story.begin("l1")
    for number, indices in enumerate(order[:3]):
        story.train(indices, number)
    _validation(story, 1)
    for number, indices in enumerate(order[3:5]):
        story.train(indices, number + 3)
    story.end("l1", 1, 5)
    story.begin("l1", 2)
    story.train(order[5], 0, epoch="l1-i2")
    _validation(story, 2)
    return story


def _validation(story, number):
    story.begin("l2", number)
    for position, indices in enumerate([[0, 1], [2, 3]]):
        story.validate(indices, position, epoch=f"l2-i{number}")
    story.end("l2", number, 2)
