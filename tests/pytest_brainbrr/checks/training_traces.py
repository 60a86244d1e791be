"""Tiny traces of training, written by hand: events in order, with every field a check may ask for. No torch."""

import zlib

from pytest_brainbrr.checks.catalogue import CHECKS
from pytest_brainbrr.targets import Target
from pytest_brainbrr.trace import Trace
from pytest_brainbrr.vocabulary import VOCABULARY

TARGET = Target("t", train=print)
BY_ID = {check.id: check for check in CHECKS}


def outcome(check, story, *, target=TARGET, **others):
    """Judge one check on a straight run and, by plan name, further ones."""
    traces = {"straight": story.trace(), **{plan: other.trace() for plan, other in others.items()}}
    return BY_ID[check].run(traces, target)


def only(check, story, **kwargs):
    """Return the one finding of a check."""
    found = outcome(check, story, **kwargs).findings
    assert len(found) == 1, found
    assert found[0].check == check
    assert found[0].cause
    assert found[0].hint
    return found[0]


def passed(check, story, **kwargs):
    """Assert that a check had something to judge and found nothing."""
    found = outcome(check, story, **kwargs)
    assert found.status == "passed", (found.status, found.reason, found.findings)
    return True


def vacuous(check, story, **kwargs):
    """Return the reason why a check had nothing to judge."""
    found = outcome(check, story, **kwargs)
    assert found.status == "vacuous", (found.status, found.findings)
    return found.reason


def zeros(*shape):
    """Return the digest of float32 zeros."""
    size = 4
    for length in shape:
        size *= length
    return f"{zlib.crc32(bytes(size)):08x}"


def fact(at="0", shape=(4, 2), **changes):
    """Facts of a tensor."""
    found = {
        "at": at,
        "shape": list(shape),
        "dtype": "float32",
        "device": "cpu",
        "requires_grad": False,
        "grad_fn": False,
        "digest": f"{zlib.crc32(repr((at, shape)).encode()):08x}",
        "samples": None,
        "finite": True,
        "min": -1.0,
        "max": 1.0,
        "mean": 0.1,
        "rms": 1.0,
        "constant": False,
        "values": None,
        "row_means": None,
    }
    return found | changes


def module(path, kind="Linear", state=("weight",), training=True, **attributes):
    """Facts of a module."""
    return {"path": path, "class": kind, "training": training, "attributes": attributes, "state": list(state)}


class Story:
    """Write events in order. Parameters are ``p0`` (encoder.weight) and ``p1`` (head.weight) unless told otherwise."""

    def __init__(
        self, names=("encoder.weight", "head.weight"), *, modules=(), buffers=(), max_steps=6, argv=(), **changes
    ):
        self.events, self.step = [], 0
        self.numbers = dict.fromkeys(("forward", "loss", "backward", "epoch"), 0)
        self.counts = {}
        self.version = 0
        self.ids = [f"p{place}" for place in range(len(names))]
        self.names = dict(zip(self.ids, names, strict=True))
        self.add("process", argv=list(argv), max_steps=max_steps, plan="straight", seed=0)
        self.model(modules=modules, buffers=buffers, **changes)

    def add(self, kind, **fields):
        assert not fields.keys() - VOCABULARY[kind].fields.keys() - {"pid", "role", "after"}, (kind, fields)
        common = {
            "kind": kind,
            "n": len(self.events),
            "t": float(len(self.events)),
            "pid": 1,
            "role": "main",
            "step": self.step,
        }
        self.events.append({**dict.fromkeys(VOCABULARY[kind].fields), **common, "after": False, **fields})
        return self.events[-1]

    def parameter(self, identity, name, **changes):
        """Facts of a parameter."""
        found = {
            "id": identity,
            "name": name,
            "shape": [2, 2],
            "dtype": "float32",
            "device": "cpu",
            "requires_grad": True,
            "digest": f"{identity}-0",
            "elements": 4,
            "norm": 1.0,
            "constant": False,
            "zero": False,
            "rows_equal": False,
            "finite": True,
            "owner": "Linear",
            "parametrized": False,
            "no_decay": False,
            "hooks": [],
        }
        return found | changes

    def model(self, identity="m0", label="Net", parameters=None, modules=(), buffers=(), unregistered=(), each=None):
        each = each or {}
        facts = parameters or [self.parameter(key, name, **each.get(name, {})) for key, name in self.names.items()]
        self.add(
            "model",
            id=identity,
            label=label,
            **{"class": label},
            wrapper=False,
            why="called",
            parameters=facts,
            tied=[],
            buffers=list(buffers),
            modules=[module("", label, ()), *modules],
            unregistered=list(unregistered),
        )

    def optimizer(
        self, identity="o0", kind="torch.optim.SGD", parameters=None, duplicates=(), defaults=None, **options
    ):
        options = {"lr": 0.1, **options}
        self.add(
            "optimizer",
            id=identity,
            **{"class": kind},
            defaults=defaults or options,
            duplicates=list(duplicates),
            foreign=[],
            groups=[{"options": options, "parameters": list(parameters or self.ids)}],
            frozen=[],
            non_leaf=[],
            models_before=[],
        )

    def forward(
        self,
        model="m0",
        *,
        training=True,
        grad=True,
        loader=None,
        mixed=(),
        inner=(),
        raised=None,
        shape=(4, 2),
        **changes,
    ):
        call = self.numbers["forward"]
        self.numbers["forward"] += 1
        outputs = [] if raised else [fact("", shape, requires_grad=grad, grad_fn=grad, **changes.pop("output", {}))]
        self.add(
            "forward",
            call=call,
            model=model,
            path="",
            **{"class": "Net"},
            training=training,
            mixed_modes=list(mixed),
            grad_enabled=grad,
            inference_mode=False,
            autocast=changes.pop("autocast", None),
            loader=loader,
            raised=raised,
            inputs=[fact("0", **{"digest": f"input-{call}", **changes})],
            outputs=outputs,
            inner=list(inner),
            inner_numbers=True,
        )
        return call

    def loss(
        self, function="binary_cross_entropy_with_logits", *, given=None, wanted=None, value=0.7, source=None, **changes
    ):
        call = self.numbers["loss"]
        self.numbers["loss"] += 1
        args = [
            {"made_by": "AddmmBackward0", **fact("input", **{"requires_grad": True, "grad_fn": True, **(given or {})})},
            {"made_by": None, **fact("target", **{"min": 0.0, "max": 1.0, "mean": 0.3, **(wanted or {})})},
            *changes.pop("extra", []),
        ]
        output = changes.pop("output", fact("", (), mean=value))
        fields = {"reduction": "mean", "probability_like": False, "grad_enabled": True, "positives": 0.3, **changes}
        self.add(
            "loss",
            call=call,
            function=function,
            args=args,
            options={},
            output=output,
            input_from=source,
            **fields,
        )
        return call

    def backward(
        self,
        forwards=(),
        losses=(),
        *,
        touched=None,
        root=0.7,
        before=(),
        norms=1.0,
        coefficient=1.0,
        scale=None,
        elements=None,
        **changes,
    ):
        """A backward, with the gradients of its losses; ``before``: ids with a gradient at entry."""
        touched = self.ids if touched is None else list(touched)
        for number in losses:
            signs = {"positive_mean": -0.1 * coefficient, "negative_mean": 0.1 * coefficient}
            self.add(
                "loss_grad",
                call=number,
                finite=True,
                zero=False,
                norm=1.0,
                rows_zero=0.0,
                output_grad=coefficient,
                elements=elements,
                **signs,
            )
        call = self.numbers["backward"]
        self.numbers["backward"] += 1
        fields = {
            "function": "backward",
            "roots": 1,
            "retain_graph": False,
            "create_graph": False,
            "raw_nonfinite": [],
            "raw_zero": [],
            "unregistered_leaves": [],
            "unreached": [],
            "tables": [],
            "in_step": False,
            "by": "trainer",
            "grads_before": {"none": len(self.ids) - len(before), "zero": 0, "nonzero": len(before)},
            **changes,
        }
        grad_fn = fields.pop("root_grad_fn", True)
        self.add(
            "backward",
            call=call,
            root=fact("", (), mean=root, grad_fn=grad_fn, requires_grad=True),
            scale=scale,
            touched=touched,
            forwards=list(forwards),
            losses=list(losses),
            nonzero_before=list(before),
            raw_norms=dict.fromkeys(touched, norms),
            **fields,
        )

    def stepped(
        self,
        optimizer="o0",
        parameters=None,
        *,
        grad="finite",
        grad_norm=None,
        moved=True,
        finite=True,
        each=None,
        **options,
    ):
        """An optimizer step; gradients differ from step to step unless ``grad_norm`` is given."""
        self.counts[optimizer] = self.counts.get(optimizer, 0) + 1
        norm = None if grad == "none" else (grad_norm if grad_norm is not None else 1.0 + len(self.events))
        kept = {name: options.pop(name) for name in ("closure", "in_backward", "digest") if name in options}
        facts = [
            {
                "id": key,
                "name": self.names.get(key, f"<foreign>/{key}"),
                "group": 0,
                "grad": grad,
                "grad_norm": norm,
                "weight_norm": 1.0,
                "update_norm": 0.1 if moved else 0.0,
                "changed": 1.0 if moved else 0.0,
                "moved": moved,
                "descent": -0.1,
                "dtype": "float32",
                "device": "cpu",
                "elements": 4,
                "sampled": False,
                "finite": finite,
                **(each or {}).get(key, {}),
            }
            for key in (parameters or self.ids)
        ]
        fields = {"closure": False, "in_backward": False, "digest": f"d{len(self.events)}", **kept}
        self.add(
            "step",
            optimizer=optimizer,
            count=self.counts[optimizer],
            groups=[{"lr": 0.1, **options}],
            parameters=facts,
            **fields,
        )
        self.step = max(self.counts.values())

    def weights(self, when="step", model="m0", *, moved=None, state=None, buffers=None, moved_buffers=(), ids=None):
        """Digests of a root; they change with every call unless ``state`` names them."""
        self.version += 1
        ids = ids or self.ids
        digests = {key: f"{key}-{self.version if state is None else state}" for key in ids}
        self.add(
            "weights",
            model=model,
            when=when,
            parameters=digests,
            buffers=buffers or {},
            nonfinite=[],
            devices={},
            dtypes={},
            moved=list(ids if moved is None else moved),
            moved_buffers=list(moved_buffers),
        )

    def zero_grad(self, what="o0"):
        self.add("zero_grad", what=what, set_to_none=True, had={"none": 0, "zero": 0, "nonzero": 2}, in_step=False)

    def clip(self, limit=1.0, norm=3.0, parameters=None, with_grad=None, **changes):
        ids = self.ids if parameters is None else list(parameters)
        fields = {"function": "clip_grad_norm_", "norm_type": 2.0, "by": "trainer", **changes}
        self.add(
            "clip",
            limit=limit,
            norm=norm,
            parameters=ids,
            given=len(ids),
            with_grad=len(ids) if with_grad is None else with_grad,
            **fields,
        )

    def scaler(self, action, enabled=True, scale=256.0, skipped=None, optimizer="o0"):
        known = optimizer if action in {"unscale", "step"} else None
        self.add(
            "scaler",
            id="g0",
            action=action,
            enabled=enabled,
            scale=scale,
            scale_after=scale,
            skipped=skipped,
            optimizer=known,
        )

    def schedule(self, action="step", kind="LambdaLR", optimizer="o0", identity="s0", rates=(0.1,), **fields):
        self.add(
            "scheduler",
            id=identity,
            action=action,
            **{"class": kind},
            optimizer=optimizer,
            rates=list(rates),
            by="trainer",
            **{"options": {}, "inner": False, "argument": None, "last_epoch": 0, "count": 0, **fields},
        )

    def loader(self, identity="l0", kind="random", **fields):
        self.add("loader", id=identity, sampler_kind=kind, drop_last=False, batch_size=4, num_samples=8, **fields)

    def iterate(self, loader="l0", action="begin", batches=0, **fields):
        if action == "begin":
            self.numbers["epoch"] += 1
        self.add(
            "epoch", id=f"i{self.numbers['epoch']}", loader=loader, action=action, batches=batches, number=1, **fields
        )
        return f"i{self.numbers['epoch']}"

    def batch(self, loader="l0", epoch="i1", position=0, **fields):
        self.add(
            "batch", loader=loader, epoch=epoch, position=position, size=4, **{"tensors": [], "others": {}, **fields}
        )

    def ended(self, how="returned", code=0, lines=(), **fields):
        self.add("exit", how=how, code=code, last_lines=list(lines), steps=self.step, **{"message": "", **fields})

    def trace(self):
        return Trace(self.events)


def trained(steps=4, *, zero=True, end=True, each=None, **changes):
    """A plain loop: zero_grad, forward, loss, backward, step, weights."""
    story = Story(**changes)
    story.optimizer()
    for _ in range(steps):
        if zero:
            story.zero_grad()
        call = story.forward()
        loss = story.loss(source=call)
        story.backward([call], [loss])
        story.stepped(each=each)
        story.weights()
    if end:
        story.ended()
    return story


def validating(steps=4, every=2, *, after=None, during=None, modules=(), buffers=(), **call):
    """A loop with a training loader and a validation through a loader of its own.

    ``call`` changes the calls of validation, ``during(story, call)`` runs after each of them, ``after`` changes the
    training calls that follow.
    """
    story = Story(modules=modules, buffers=buffers)
    story.optimizer()
    story.loader("l0")
    story.loader("l1", "sequential")
    train = story.iterate("l0")
    changed = {}
    for number in range(steps):
        story.batch("l0", train, number)
        first = story.forward(loader=[train, number], **changed)
        story.backward([first], [story.loss(source=first)])
        story.stepped()
        story.weights()
        if (number + 1) % every == 0:
            own = story.iterate("l1")
            for place in range(2):
                story.batch("l1", own, place)
                seen = story.forward(loader=[own, place], **{"training": False, "grad": False, **call})
                if during is not None:
                    during(story, seen)
            story.iterate("l1", "end", 2)
            changed = after or {}
    story.ended()
    return story
