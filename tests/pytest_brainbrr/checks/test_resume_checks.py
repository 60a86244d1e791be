# ruff: noqa: E501 (a story reads best with one event per line)
"""Checkpoints, best selection, resume, determinism, sensitivity, variants: planted faults and healthy neighbors."""

import contextlib

import pytest
from data_traces import Story, fact, healthy, label

from pytest_brainbrr.checks import axes, best, checkpoints, determinism, resume, sensitivity, variants
from pytest_brainbrr.checks.base import Vacuous
from pytest_brainbrr.checks.kept import changed_best
from pytest_brainbrr.targets import Target

ROOMS = (axes, best, checkpoints, determinism, resume, sensitivity, variants)
CHECKS = {check.id: check for room in ROOMS for check in room.CHECKS}
TARGET = Target("any", train=print)
RESUMABLE = Target("any", train=print, resumable=True)
NAMES = ("a.weight", "a.bias", "b.weight")


def judge(check, target=TARGET, **stories):
    return list(CHECKS[check].judge({plan: story.trace() for plan, story in stories.items()}, target))


def wheres(findings):
    return [(finding.where, finding.severity) for finding in findings]


def with_model(story=None, *, buffers=("a.running_mean",)):
    story = story or Story()
    parameters = [
        {"id": f"p{n}", "name": name, "shape": [4], "dtype": "float32", "requires_grad": True, "digest": f"{name}-0", "elements": 100 if name == "a.weight" else 4}
        for n, name in enumerate(NAMES)
    ]  # fmt: skip
    buffer_facts = [{"id": f"b{n}", "name": name, "persistent": True} for n, name in enumerate(buffers)]
    story.add(
        "model",
        id="m1",
        label="Net",
        wrapper=False,
        parameters=parameters,
        buffers=buffer_facts,
        modules=[],
        built_n=1,
        why="called",
    )
    story.add(
        "weights",
        model="m1",
        when="first_forward",
        parameters={f"p{n}": f"{name}-0" for n, name in enumerate(NAMES)},
        buffers={},
    )
    return story


def state(step):
    return {f"{name}": f"{name}-{step}" for name in (*NAMES, "a.running_mean")}


def save(story, tensors, *, path="last.pt", scalars=None, overwrote=False, step=None, **snapshot):
    parts = {
        "models": {"Net": state(story.step)},
        "optimizers": [],
        "schedulers": [],
        "scalers": [],
        "copies": [],
        "rng": {},
        "loaders": [],
    }
    story.add("snapshot", when="save", **(parts | snapshot), steps=story.step)
    facts = {key: {"shape": [4], "dtype": "float32", "digest": value} for key, value in tensors.items()}
    story.add(
        "checkpoint_write",
        path=path,
        tensors=facts,
        scalars=scalars or {},
        types={},
        overwrote=overwrote,
        writer="torch.save",
        bytes=1,
        truncated=False,
    )


def trained(steps=2, *, lr=0.1, digests="w{}", first=0):
    story = with_model()
    for place in range(first, steps):
        batch = story.batch([2 * place, 2 * place + 1], position=place)
        call = story.forward(batch)
        story.loss(call, batch["tensors"][1])
        story.backward(call)
        moved = [{"id": f"p{n}", "name": name, "moved": True, "group": 0} for n, name in enumerate(NAMES)]
        event = story.optimize(digest=digests.format(place + 1))
        event["parameters"], event["groups"] = moved, [{"lr": lr}]
        story.add("rng", when="step", torch=f"r{place + 1}", numpy="n", python="p", cuda=None)
    return story


def test_nothing_seen_is_never_passed():
    for check in CHECKS.values():
        with pytest.raises(Vacuous):
            judge(check.id, **{plan: Story() for plan in check.needs})


@pytest.mark.parametrize("check", sorted(set(CHECKS) - {check.id for check in variants.CHECKS}))
def test_healthy_trainer_gives_no_finding(check):
    with contextlib.suppress(Vacuous):
        assert judge(check, **dict.fromkeys(CHECKS[check].needs, healthy())) == []


def saved(prefix="model/", *, of=None, names=(*NAMES, "a.running_mean"), path="last.pt"):
    story = trained()
    save(story, {f"{prefix}{name}": f"{name}-{story.step if of is None else of}" for name in names}, path=path)
    return story


def test_checkpoint_of_initial_weights_fails_and_of_present_ones_passes():
    assert wheres(judge("checkpoint-current", straight=saved(of=0))) == [("checkpoint last.pt", "error")]
    assert judge("checkpoint-current", straight=saved()) == []
    assert judge("checkpoint-current", straight=saved(of=1)) == []  # the best weights so far, kept and written later


def test_checkpoint_without_buffers_or_with_half_a_layer_fails():
    assert wheres(judge("checkpoint-complete", straight=saved(names=NAMES))) == [
        ("checkpoint last.pt: buffers", "error")
    ]
    found = judge("checkpoint-complete", straight=saved(names=("a.weight", "b.weight", "a.running_mean")))
    assert wheres(found) == [("checkpoint last.pt: parameters", "error")]
    assert judge("checkpoint-complete", straight=saved(prefix="module.")) == []


def test_weights_in_several_files_are_one_checkpoint():
    story = trained()
    names = [*NAMES, "a.running_mean"]
    for place in range(2):
        save(story, {name: f"{name}-{story.step}" for name in names[place::2]}, path=f"step/shard{place}.pt")
    assert judge("checkpoint-complete", straight=story) == []
    other = trained()
    save(other, {name: f"{name}-{other.step}" for name in names if name != "a.bias"}, path="a.pt")
    save(other, {name: f"{name}-{other.step}" for name in names}, path="best.pt")
    assert wheres(judge("checkpoint-complete", straight=other)) == [("checkpoint a.pt: parameters", "error")]


def test_checkpoints_of_a_small_part_fail_and_of_the_encoder_do_not():
    assert wheres(judge("checkpoint-complete", straight=saved(names=("b.weight",)))) == [("all checkpoints", "error")]
    assert judge("checkpoint-complete", straight=saved(names=("a.weight", "a.bias", "a.running_mean"))) == []


def resuming(reads="last.pt"):
    story = Story()
    story.events[0]["resume_from"] = "last.pt"
    story.add("file_open", path=reads, mode="read")
    return story


def averaging(name, *, loaded=False):
    story = Story()
    for _ in range(2):
        story.optimize()
        facts = {"of": "m1", "form": "dict", "equal": 0, "in_optimizer": False, "updates": None}
        story.add("copy", id="c0", parameters={"a": f"{name}-{story.step}"}, decay=0.9, **facts)
        if loaded:
            story.add("copy", id="c1", parameters={"a": "as it was loaded"}, decay=None, **facts)
    return story.trace()


@pytest.mark.parametrize(
    ("name", "loaded", "count"), [("same", True, 0), ("anew", True, 1), ("same", False, 0), ("anew", False, 1)]
)
def test_an_average_is_compared_beside_what_was_loaded(name, loaded, count):
    assert len(list(resume._averages(averaging("same"), averaging(name, loaded=loaded), 0))) == count


@pytest.mark.parametrize(
    ("overwrote", "scalars", "count"),
    [(True, {"optimizer/param_groups/0/lr": 0.1}, 1), (False, {"optimizer/param_groups/0/lr": 0.1}, 0), (True, {}, 0)],
)
def test_overwriting_the_only_full_checkpoint_in_place_warns(overwrote, scalars, count):
    story = trained()
    save(story, state(2), overwrote=overwrote, scalars=scalars)
    found = judge("checkpoint-atomic", straight=story, resumed=resuming())
    assert [finding.severity for finding in found] == ["warning"] * count


@pytest.mark.parametrize("runs", [{}, {"resumed": resuming(reads="data.npz")}])
def test_overwriting_in_place_is_not_judged_where_nothing_resumes(runs):
    story = trained()
    save(story, state(2), overwrote=True, scalars={"optimizer/param_groups/0/lr": 0.1})
    with pytest.raises(Vacuous, match="resumes"):
        judge("checkpoint-atomic", straight=story, **runs)


def test_checkpoint_renamed_into_place_is_atomic():
    story = trained()
    save(story, state(2), path="last.tmp", overwrote=True, scalars={"optimizer/param_groups/0/lr": 0.1})
    story.add("rename", source="last.tmp", to="last.pt")
    assert judge("checkpoint-atomic", straight=story, resumed=resuming()) == []


def loading(missing, unexpected, loaded):
    story = Story()
    story.add(
        "load_state_dict",
        what="Net",
        id="m1",
        strict=False,
        missing=missing,
        unexpected=unexpected,
        keys=2,
        loaded=loaded,
        raised=None,
    )
    return story


def test_loading_that_loads_nothing_fails_and_a_new_head_does_not():
    found = judge("load-takes-effect", straight=loading(["a.w", "b.w"], ["module.a.w", "module.b.w"], 0))
    assert wheres(found) == [("start of training", "error")]
    assert "module." in found[0].cause
    assert judge("load-takes-effect", straight=loading(["head.w"], ["old.w"], 1)) == []
    assert judge("load-takes-effect", straight=loading([], [], 2)) == []


def selecting(values, written, name="val_loss"):
    story = trained()
    for number, value in enumerate(values, 1):
        story.begin("l2", number)
        story.validate([90, 91], epoch=f"l2-i{number}")
        if number in written:
            save(story, state(2), path="best.pt", scalars={f"best_{name}": value})
    story.add("metrics_file", path="log.csv", rows=[{name: value} for value in values])
    return story


@pytest.mark.parametrize(
    ("values", "written", "name", "count"),
    [
        ([0.5, 0.6, 0.4], {1, 2}, "val_loss", 1),
        ([0.5, 0.6, 0.4], {1, 3}, "val_loss", 0),
        ([0.5, 0.499], {1}, "val_loss", 0),
        ([0.5, 0.3], {1}, "val_loss", 1),
        ([0.5, 0.6, 0.4], {1, 2}, "val_accuracy", 0),
        ([0.5, 0.6, 0.4], {1, 3}, "val_accuracy", 1),
    ],
)
def test_best_checkpoint_follows_its_number(values, written, name, count):
    assert len(judge("best-is-best", straight=selecting(values, written, name))) == count


def unnumbered(written, scalars=(), **logged):
    story = trained()
    count = len(next(iter(logged.values())))
    for number in range(1, count + 1):
        story.begin("l2", number)
        story.validate([90, 91], epoch=f"l2-i{number}", value=logged.get("val_loss", [9, 8])[number - 1])
        if number in written:
            kept = {name: logged[of][number - 1] for name, of in scalars}
            save(story, state(2), path="best.pt", scalars={"epoch": number, **kept})
    rows = [dict(zip(logged, values, strict=True)) for values in zip(*logged.values(), strict=True)]
    story.add("metrics_file", path="log.json", rows=rows)
    return story


@pytest.mark.parametrize(
    ("written", "logged", "count"),
    [
        ({1}, {"val_loss": [0.5, 0.4, 0.3]}, 1),
        ({1, 2}, {"val_loss": [0.5, 0.6, 0.4]}, 1),
        ({1, 2}, {"val_loss": [0.5, 0.6, 0.4], "train_loss": [0.5, 0.4, 0.3], "epoch": [0, 1, 2]}, 1),
        ({1}, {"val_loss": [0.5, 0.4, 0.3], "val_accuracy": [0.6, 0.6, 0.5]}, 0),
        ({1, 2}, {"val_loss": [0.5, 0.6, 0.4], "gap": [1, 2, 1]}, 0),
        ({1, 2, 3}, {"val_loss": [0.5, 0.45, 0.4]}, 0),
        ({1}, {"val_loss": [0.5, 0.499, 0.498]}, 0),
        ({2, 3}, {"val_loss": [0.5, 0.45, 0.4]}, 0),
    ],
)
def test_best_checkpoint_without_a_number_is_judged_by_all_that_is_logged(written, logged, count):
    try:
        found = judge("best-is-best", straight=unnumbered(written, **logged))
    except Vacuous:
        found = []
    assert [finding.severity for finding in found] == ["warning"] * count


def test_best_checkpoint_that_keeps_a_number_of_training_under_the_name_of_another():
    logged = {"f1": [0.2, 0.1], "train_accuracy": [0.5, 0.6]}
    found = judge("best-is-best", straight=unnumbered({1, 2}, [("f1", "train_accuracy")], **logged))
    assert found[0].evidence["is"] == "train_accuracy"
    logged = {"f1": [0.2, 0.25], "train_accuracy": [0.5, 0.6]}
    assert judge("best-is-best", straight=unnumbered({1, 2}, [("f1", "f1")], **logged)) == []


def remembering(kept, *, path="progress/best/0/0", values=(0.6, 0.7, 0.5), name="auroc"):
    """Three validations, and checkpoints without a name that remember the best number so far."""
    story = trained()
    for number in range(1, len(values) + 1):
        story.begin("l2", number)
        story.validate([90, 91], epoch=f"l2-i{number}")
    save(story, state(2), path="last.pt", scalars={path: kept})
    story.add("metrics_file", path="log.csv", rows=[{name: value} for value in values])
    return story


def test_remembered_best_number_is_not_the_worst():
    for kept in (0.5, -0.5):
        assert wheres(judge("best-is-best", straight=remembering(kept))) == [("best number", "error")]
    assert wheres(judge("best-is-best", straight=remembering(0.7, name="loss"))) == [("best number", "error")]
    for sound in (
        remembering(0.7),
        remembering(0.5, name="loss"),
        remembering(0.5, path="model/best.weight"),
        remembering(0.5, path="progress/last"),
        remembering(0.5, values=(0.5, 0.5)),
        remembering(0.5, name="gap"),
    ):
        with pytest.raises(Vacuous):
            judge("best-is-best", straight=sound)


@pytest.mark.parametrize(("step", "count"), [(2, 1), ("averaged", 0)])
def test_best_checkpoint_of_other_weights_than_validated_fails(step, count):
    story = trained()
    story.begin("l2")
    averaged = {f"p{n}": f"{name}-averaged" for n, name in enumerate(NAMES)}
    story.add("weights", model="m1", when="eval_begin", parameters=averaged, buffers={})
    story.validate([90, 91])
    save(story, {name: f"{name}-{step}" for name in NAMES}, path="best.pt")
    assert len(judge("best-is-validated", straight=story)) == count


def best_between_validations(number):
    story = trained()
    story.begin("l2")
    validated = {f"p{n}": f"{name}-validated" for n, name in enumerate(NAMES)}
    story.add("weights", model="m1", when="eval_begin", parameters=validated, buffers={})
    story.validate([90, 91])
    story.train([2, 3], 2)
    live = {name: f"{name}-{story.step}" for name in NAMES}
    save(story, live, path="best.pt", scalars={f"best_{number}": 0.25})
    story.add("metrics_file", path="log.csv", rows=[{number: 0.25}])
    return story


def test_best_checkpoint_saved_between_validations_is_judged_by_its_number():
    assert len(judge("best-is-validated", straight=best_between_validations("val_loss"))) == 1
    with pytest.raises(Vacuous):
        judge("best-is-validated", straight=best_between_validations("train_loss"))


@pytest.mark.parametrize(
    ("aliased", "numbers", "count"),
    [(True, ("best/step", 2), 1), (False, ("best/step", 2), 0), (True, ("best/score", 0.5), 1)],
)
def test_best_weights_that_train_on(aliased, numbers, count):
    story = Story()
    for step in (1, 2, 3):
        now = {f"model/{name}": f"{name}-{step}" for name in NAMES}
        best = {f"best/{name}": f"{name}-{step if aliased else 1}" for name in NAMES}
        save(story, now | best, scalars=dict([numbers]))
    found = changed_best(story.trace())
    assert (found is not None) == bool(count)


def test_a_draw_may_replace_the_best():
    story = Story()
    for step in (1, 2, 3):
        story.validate([90, 91])
        save(story, {"model/a": f"a-{step}", "best/a": f"a-{step}"}, scalars={"best/score": 0.5})
    assert changed_best(story.trace()) is None


@pytest.mark.parametrize(("value", "count"), [(1.0, 0), (87.5, 0), (640.0, 1), (-0.2, 1)])
def test_accuracy_out_of_its_range_fails(value, count):
    story = Story()
    story.add("metric", logger="SummaryWriter", values={"val/accuracy": value, "val/loss": -3.0}, at=1)
    assert len(judge("metric-range", straight=story)) == count


@pytest.mark.parametrize(("shape", "axis", "count"), [([4, 1], 1, 1), ([4, 3], 0, 1), ([4, 3], 1, 0), ([1, 3], 0, 0)])
def test_argmax_over_the_wrong_axis_fails(shape, axis, count):
    story = Story()
    story.forward(None, x=fact("0", range(4)), outputs=[fact("0", range(shape[0]), shape=(shape[1],), digest="logits")])
    story.add("choice", function="argmax", shape=shape, axis=axis, digest="logits", grad_enabled=False)
    assert len(judge("metric-axis", straight=story)) == count


@pytest.mark.parametrize(
    ("shape", "axis", "grad", "count"),
    [([4, 3], 0, False, 1), ([4, 3], 1, False, 0), ([4, 3], 0, True, 0), ([4, 4], 0, False, 0), ([4, 1], 0, False, 0)],
)
def test_softmax_over_the_batch_warns_where_nothing_is_trained(shape, axis, grad, count):
    story = Story()
    story.forward(None, x=fact("0", range(4)), outputs=[fact("0", range(shape[0]), shape=(shape[1],), digest="logits")])
    story.add("choice", function="softmax", shape=shape, axis=axis, digest="logits", grad_enabled=grad)
    assert wheres(judge("metric-axis", straight=story)) == [("softmax", "warning")] * count


# ---------------------------------------------------------------------- resume


def interrupted(*, resumed_from=2, parts=None, order=None, counted=None, digests="w{}", rng="r{}", returned=4):
    """Return straight, stopped and resumed runs of four steps, stopped after two."""
    moments = {
        "optimizers": [{"class": "Adam", "state": {"a.weight": {"exp_avg": "m2"}}}],
        "schedulers": [{"class": "Step", "state": {"last_epoch": 2}}],
    }
    straight, stopped = trained(4), trained(2)
    save(stopped, state(2), scalars={"step": 2, "optimizer/lr": 0.1}, **moments)
    again = trained(returned, first=resumed_from, digests=digests)
    again.events[0] |= {"resume_from": "/runs/stopped/last.pt"}
    again.events.insert(
        1,
        {
            "kind": "checkpoint_read",
            "path": "/runs/stopped/last.pt",
            "tensors": {},
            "scalars": {},
            "step": 0,
            "role": "main",
            "after": False,
        },
    )
    again.events.insert(
        2,
        {
            "kind": "snapshot",
            "when": "resume",
            "step": 0,
            "models": {"Net": state(2)},
            "scalers": [],
            "copies": [],
            "role": "main",
            "after": False,
        }
        | moments
        | (parts or {}),
    )
    for event in again.events:
        if event["kind"] == "batch" and order is not None:
            event["base_indices"] = order
        if event["kind"] == "rng":
            event["torch"] = rng.format(event["torch"].removeprefix("r"))
    for n, event in enumerate(again.events):
        event["n"], event["pid"] = n, 1
    return {"straight": straight, "stopped": stopped, "resumed": again}


def test_resumed_equals_uninterrupted():
    assert judge("resume-continues", RESUMABLE, **interrupted()) == []


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"parts": {"optimizers": [{"class": "Adam", "state": {}}]}}, "optimizer state"),
        ({"parts": {"schedulers": [{"class": "Step", "state": {"last_epoch": 0}}]}}, "schedule"),
        ({"parts": {"models": {"Net": state(0)}}}, "model weights"),
        ({"order": [0, 1]}, "order of samples"),
        ({"rng": "fresh{}"}, "random generators"),
        ({}, "trained weights"),
    ],
)
def test_the_missing_part_is_named(changes, where):
    found = judge("resume-continues", RESUMABLE, **interrupted(digests="x{}", **changes))
    assert (where, "error") in wheres(found)
    assert len(found) == 1


def test_generators_only_warn_where_nobody_promised_to_resume():
    assert wheres(judge("resume-continues", **interrupted(digests="x{}", rng="fresh{}"))) == [
        ("random generators", "warning")
    ]


def test_step_counter_that_begins_again_fails():
    found = judge("resume-continues", RESUMABLE, **interrupted(returned=6))
    assert wheres(found) == [("counters", "error")]


def test_noise_between_equal_runs_makes_resuming_vacuous():
    with pytest.raises(Vacuous, match="already differ"):
        judge("resume-continues", RESUMABLE, **interrupted(digests="x{}"), repeat=trained(4, digests="y{}"))


def test_weights_only_checkpoints_are_not_asked_to_resume():
    runs = interrupted(digests="x{}")
    for event in runs["stopped"].events:
        if event["kind"] == "checkpoint_write":
            event["scalars"] = {"epoch": 1}
    with pytest.raises(Vacuous, match="weights only"):
        judge("resume-continues", **runs)


def test_checkpoint_never_opened_or_overwritten_fails():
    runs = interrupted()
    runs["resumed"].events[1] |= {"kind": "warning", "text": "", "path": None}
    assert judge("resume-reads", RESUMABLE, **interrupted()) == []
    assert wheres(judge("resume-reads", RESUMABLE, **runs)) == [("run.resume_from", "error")]
    with pytest.raises(Vacuous):
        judge("resume-reads", **runs)
    runs = interrupted()
    first = {
        "kind": "checkpoint_write",
        "path": "/runs/stopped/last.pt",
        "tensors": {},
        "n": -1,
        "pid": 1,
        "role": "main",
        "after": False,
    }
    runs["resumed"].events.insert(1, first)
    assert "overwritten" in judge("resume-reads", RESUMABLE, **runs)[0].message


# ---------------------------------------------------------------------- determinism


def seeded(*, initial="i", order=(0, 1), content="x", digests="w{}", seed=7):
    story = Story()
    story.add("seed", function="torch.manual_seed", value=seed, by="train")
    story.add("model", id="m1", label="Net", parameters=[{"name": "a", "digest": initial}], built_n=9)
    batch = story.batch(list(order), x=fact("0", [content, *order]))
    call = story.forward(batch)
    story.backward(call)
    story.optimize(digest=digests.format(1))
    return story


@pytest.mark.parametrize(
    ("other", "where"),
    [
        ({"initial": "j"}, "initial weights"),
        ({"order": (2, 3)}, "order of samples"),
        ({"content": "y"}, "content of samples"),
    ],
)
def test_first_difference_between_two_equal_runs_is_named(other, where):
    found = judge("repeats", straight=seeded(), repeat=seeded(**other, digests="v{}"))
    assert wheres(found) == [(where, "error")]


def test_equal_runs_pass_and_noise_of_operations_or_no_seed_is_vacuous():
    assert judge("repeats", straight=seeded(), repeat=seeded()) == []
    with pytest.raises(Vacuous, match="bitwise"):
        judge("repeats", straight=seeded(), repeat=seeded(digests="v{}"))
    unseeded = [seeded(initial=name, digests=f"{name}{{}}", seed=None) for name in "ij"]
    with pytest.raises(Vacuous, match="no seed"):
        judge("repeats", straight=unseeded[0], repeat=unseeded[1])


def test_seed_without_influence_warns():
    assert wheres(judge("seed-matters", straight=seeded(), reseeded=seeded())) == [("seed", "warning")]
    assert judge("seed-matters", straight=seeded(), reseeded=seeded(seed=8, initial="j")) == []
    with pytest.raises(Vacuous):
        judge("seed-matters", straight=seeded(), reseeded=seeded(seed=8))


# ---------------------------------------------------------------------- sensitivity and variants


def probed(name, **result):
    story = Story()
    story.add("probe", name=name, model="Net", at="end", result=result, raised=None)
    return story


@pytest.mark.parametrize(
    ("difference", "noise", "count"), [(0.5, 0.0, 1), (1e-6, 0.0, 0), (0.5, 0.4, 0), (0.0, 0.0, 0)]
)
def test_samples_of_a_batch_do_not_influence_each_other(difference, noise, count):
    probe = probed("batch_independence", difference=difference, noise=noise, scale=1.0, size=2)
    assert len(judge("batch-independent", straight=healthy(), probe=probe)) == count


def test_outputs_that_compare_the_batch_are_not_judged():
    story = healthy()
    for event in story.events:
        if event["kind"] == "forward":
            event["outputs"][0]["shape"] = [2, 2]
    with pytest.raises(Vacuous, match="compares"):
        judge(
            "batch-independent",
            straight=story,
            probe=probed("batch_independence", difference=1.0, noise=0.0, scale=1.0, size=2),
        )


def test_dropout_in_evaluation_fails_and_other_chance_does_not():
    story = healthy()
    assert wheres(
        judge(
            "evaluation-repeats",
            straight=story,
            probe=probed("repeat_eval", equal=False, difference=1.0, dropout=["dropout"]),
        )
    ) == [("model output", "error")]
    assert (
        judge("evaluation-repeats", straight=story, probe=probed("repeat_eval", equal=True, difference=0.0, dropout=[]))
        == []
    )
    with pytest.raises(Vacuous, match="meant"):
        judge(
            "evaluation-repeats", straight=story, probe=probed("repeat_eval", equal=False, difference=1.0, dropout=[])
        )


def test_output_that_ignores_its_input_fails():
    assert wheres(
        judge("input-matters", straight=healthy(), probe=probed("input_sensitivity", changed=False, difference=0.0))
    ) == [("model output", "error")]
    assert (
        judge("input-matters", straight=healthy(), probe=probed("input_sensitivity", changed=True, difference=1.0))
        == []
    )


@pytest.mark.parametrize(("late", "varied", "count"), [(0.0, True, 1), (0.0, False, 0), (1e-9, True, 0)])
def test_half_of_the_input_without_influence_warns(late, varied, count):
    probe = probed("input_sensitivity", changed=True, difference=1.0)
    facts = {"time": False, "before": None, "after": None, "scale": None, "late": late, "varied": varied}
    probe.add("probe", name="look_ahead", model="net", at="end", result=facts, raised=None)
    found = wheres(judge("input-matters", straight=healthy(), probe=probe))
    assert found == [("second half of the input", "warning")] * count


def test_look_ahead_fails_only_for_models_declared_causal():
    probe = probed("look_ahead", time=True, before=0.5, after=1.0, scale=1.0)
    causal = Target("any", train=print, causal=True)
    assert wheres(judge("no-look-ahead", causal, straight=healthy(), probe=probe)) == [("model output", "error")]
    assert (
        judge(
            "no-look-ahead",
            causal,
            straight=healthy(),
            probe=probed("look_ahead", time=True, before=0.0, after=1.0, scale=1.0),
        )
        == []
    )
    with pytest.raises(Vacuous, match="causal"):
        judge("no-look-ahead", straight=healthy(), probe=probe)


def test_held_out_file_must_not_matter():
    same = trained()
    assert judge("held-out-apart", straight=trained(), touched=same) == []
    assert wheres(judge("held-out-apart", straight=trained(), touched=trained(digests="v{}"))) == [
        ("trained weights", "error")
    ]
    other = trained()
    for event in other.events:
        for part in event.get("tensors", []) + event.get("inputs", []):
            part["digest"] = "changed"
    assert wheres(judge("held-out-apart", straight=trained(), touched=other)) == [("training data", "error")]
    with pytest.raises(Vacuous, match="learning rate"):
        judge("held-out-apart", straight=trained(), touched=trained(digests="v{}", lr=0.01))


def without_positives(labels, *, said=False, how="returned"):
    story = Story()
    story.train([0, 1], y=label("1", labels))
    if said:
        story.add("warning", category="UserWarning", text="no seizures in the training data", by="train")
    return story


def test_training_without_positives_must_be_said():
    assert wheres(judge("no-positives", no_positives=without_positives([0, 0]))) == [("guard", "error")]
    assert judge("no-positives", no_positives=without_positives([0, 0], said=True)) == []
    assert wheres(judge("no-positives", no_positives=without_positives([1, 1]))) == [("labels", "error")]
    strict = Target("any", train=print, refuses_no_positives=True)
    assert wheres(judge("no-positives", strict, no_positives=without_positives([0, 0], said=True))) == [
        ("guard", "error")
    ]


def test_refusal_comes_before_the_first_step():
    def run(story):
        return list(CHECKS["no-positives"].judge({"no_positives": story.trace("system_exit")}, TARGET))

    assert run(Story()) == []
    assert wheres(run(without_positives([0, 0]))) == [("guard", "error")]


def test_painting_over_nan_warns():
    assert wheres(judge("non-finite-said", straight=healthy(), non_finite=healthy())) == [("reading", "warning")]
    fewer = healthy()
    for event in fewer.events:
        if event["kind"] == "dataset":
            event["length"] -= 1
    assert judge("non-finite-said", straight=healthy(), non_finite=fewer) == []


def test_batches_passed_over_for_nan_are_to_be_told():
    silent = healthy()
    silent.events = [event for event in silent.events if event["kind"] != "backward"]
    assert wheres(judge("non-finite-said", straight=healthy(), non_finite=silent)) == [("training", "warning")]


def test_what_normal_data_bring_as_well_is_no_message():
    usual, told = healthy(), healthy()
    for story in (usual, told):
        story.add("warning", category="UserWarning", text="artifacts are logged", by="m")
    assert wheres(judge("non-finite-said", straight=usual, non_finite=told)) == [("reading", "warning")]
    assert judge("non-finite-said", straight=healthy(), non_finite=told) == []


@pytest.mark.parametrize(("workers", "position", "vacuous"), [(2, 1, True), (0, 1, False), (2, 0, False)])
def test_augmentation_in_workers_amid_an_epoch_cannot_be_put_back(workers, position, vacuous):
    def run(name):
        story = Story()
        story.loader("l1", "d1", workers=workers)
        for place in range(2):
            at = position if place or name == "again" else 0
            batch = story.batch([4, 5], position=at, x=fact("0", [name, 5]))
            call = story.forward(batch)
            story.backward(call)
            story.optimize()
        return story.trace()

    assert resume._drawn_anew(run("once"), run("again"), 1) == vacuous
    assert not resume._drawn_anew(run("once"), run("once"), 1)
