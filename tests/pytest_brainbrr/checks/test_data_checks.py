"""Checks of the data path: one planted fault and its healthy neighbors for each."""

import contextlib

import pytest
from data_traces import Story, digest, fact, healthy, label

from pytest_brainbrr.checks import augmentation, labels, leaks, loaders, patients, reading, split, validation
from pytest_brainbrr.checks.base import Vacuous
from pytest_brainbrr.checks.feeds import validation_feeds
from pytest_brainbrr.targets import Target

ROOMS = (augmentation, labels, leaks, loaders, patients, reading, split, validation)
CHECKS = {check.id: check for room in ROOMS for check in room.CHECKS}
TARGET = Target("any", train=print)


def judge(check, story, *, target=TARGET, **others):
    traces = {"straight": story.trace(), **{plan: other.trace() for plan, other in others.items()}}
    return list(CHECKS[check].judge(traces, target))


def wheres(findings):
    return [(finding.where, finding.severity) for finding in findings]


@pytest.mark.parametrize("check", sorted(set(CHECKS) - {"reading-changes-nothing"}))
def test_healthy_trainer_gives_no_finding(check):
    with contextlib.suppress(Vacuous):
        assert judge(check, healthy()) == []


@pytest.mark.parametrize("check", sorted(set(CHECKS) - {"reading-changes-nothing"}))
def test_nothing_seen_is_never_passed(check):
    with pytest.raises(Vacuous):
        judge(check, Story())


def test_validation_on_training_samples_fails():
    story = healthy()
    for event in story.events:
        if event["kind"] == "batch" and event["loader"] == "l2":
            event["tensors"][0] = fact("0", [("train", index) for index in event["indices"]])
        if event["kind"] == "forward" and not event["training"]:
            event["inputs"] = [fact("0", [("train", row) for row in (0, 1)])]
    (finding,) = judge("split-disjoint", story)
    assert (finding.where, finding.severity) == ("validation data", "error")
    assert finding.evidence["also_in_training"] == finding.evidence["held_out"]


def by_hand(*, ended=True, after=4):
    """Training on tensors indexed by hand, in the middle of it a validation through a loader."""
    story = Story()
    story.dataset("d2", 4)
    story.loader("l2", "d2", sampler_kind="sequential", num_samples=4, batches=2)
    for step in range(4 + after):
        if step == 4:
            epoch = story.begin("l2")
            story.validate([0, 1], epoch=epoch)
            story.validate([2, 3], 1, epoch=epoch)
            if ended:
                story.end("l2", batches=2)
        call = story.forward(x=fact("0", [("hand", step), ("hand", step + 50)], digest=digest("hand", step)))
        call["loader"] = ["l2-i1", 1] if step >= 4 else None  # the batch delivered last, which it is not made of
        story.backward(call)
        story.optimize()
    return story


def test_data_of_no_loader_is_not_taken_for_the_batch_delivered_last():
    trace = by_hand().trace()
    assert [call["loader"] for call in trace.train_calls] == [None] * 8
    assert [call["loader"] for call in trace.eval_calls] == [["l2-i1", 0], ["l2-i1", 1]]
    assert judge("split-disjoint", by_hand()) == []


def test_an_engine_that_fetches_ahead_still_uses_its_last_batch():
    story = Story()
    story.loader()
    epoch = story.begin()
    first, second = story.batch([0, 1], epoch=epoch), story.batch([2, 3], epoch=epoch, position=1)
    story.backward(story.forward(first))
    story.optimize()
    story.end(batches=2)
    story.backward(story.forward(second, x=fact("0", ["other", "views"], digest="augmented")))
    assert [call["loader"] for call in story.trace().train_calls] == [["l1-i1", 0], ["l1-i1", 1]]


@pytest.mark.parametrize("training", [True, False])
def test_a_second_look_at_the_batch_of_the_last_step_is_no_validation(training):
    story = Story()
    for step in range(5):
        x = fact("0", [("hand", step), 0], digest=digest("hand", step))
        story.backward(story.forward(x=x))
        story.optimize()
        call = story.forward(x=x, training=training, grad=False)
        story.loss(call, label("1", [0, 1]), grad=False)
    assert bool(validation_feeds(story.trace())) == (not training)


def test_an_input_that_comes_back_is_made_of_no_batch():
    story = Story()
    for step in range(3):
        batch = story.train([2 * step, 2 * step + 1], step)
        call = story.forward(batch, training=False, grad=False, x=fact("0", ["kept", "aside"], digest="held"))
        assert call["loader"]
    trace = story.trace()
    assert [call["loader"] for call in trace.eval_calls] == [None] * 3
    assert None not in [call["loader"] for call in trace.train_calls]


def test_scaled_copies_of_training_samples_are_recognized_by_their_form():
    story = healthy()
    for event in story.events:
        for part in event.get("tensors", []) + event.get("inputs", []):
            if part["dtype"] == "float32" and part["shape"][1:]:
                names = event.get("indices") or [0, 1]
                part["forms"] = [digest("form", index) for index in names]
    assert wheres(judge("split-disjoint", story)) == [("validation data", "error")]


def test_same_base_data_set_with_other_indices_is_healthy():
    story = healthy()
    for event in story.events:
        if event["kind"] == "dataset":
            event["base"] = "d0"
        if event["kind"] == "batch" and event["loader"] == "l2":
            event["base_indices"] = [index + 100 for index in event["indices"]]
    assert judge("split-disjoint", story) == []


def test_one_batch_trained_and_evaluated_on_purpose_only_warns():
    story = Story()
    story.dataset("d1", length=2), story.loader("l1", "d1"), story.loader("l2", "d1")
    story.begin("l1")
    for place in range(3):
        story.train([0, 1], place)
    story.begin("l2")
    story.validate([0, 1], split="train")
    assert wheres(judge("split-disjoint", story)) == [("validation data", "warning")]


def test_teacher_on_training_batches_is_no_validation():
    story = Story()
    story.dataset(), story.loader(), story.begin("l1")
    for place in range(3):
        batch = story.batch([place, place + 1], position=place)
        call = story.forward(batch)
        story.forward(batch, training=False, grad=False, model="m2")
        story.backward(call)
        story.optimize()
    with pytest.raises(Vacuous, match="no validation"):
        judge("split-disjoint", story)


def test_patient_on_both_sides_fails():
    story = Story()
    story.dataset("d1"), story.dataset("d2"), story.loader("l1", "d1"), story.loader("l2", "d2")
    story.begin("l1")
    story.train([0, 1], **{"patient.0": "anna", "patient.1": "berta"})
    story.begin("l2")
    story.validate([0, 1], **{"patient.0": "carla", "patient.1": "anna"})
    (finding,) = judge("split-patients", story)
    assert finding.evidence == {"patients": ["anna"], "count": 1}


@pytest.mark.parametrize(("held_out", "count"), [("data/val/p03_s001.npz", 0), ("data/val/p01_s002.npz", 1)])
def test_patients_in_file_names(held_out, count):
    story = healthy()
    for path in ("data/train/p01_s001.npz", "data/train/p02_s001.npz", held_out):
        story.add("file_open", path=path, mode="read")
    assert len(judge("split-patients", story)) == count


@pytest.mark.parametrize(("read", "count"), [("data/val/a.npz", 0), ("data/train/b.npz", 1)])
def test_held_out_folder_is_read(read, count):
    story = healthy()
    for path in ("data/train/a.npz", read):
        story.add("file_open", path=path, mode="read")
    for path in ("data/train/a.npz", "data/train/b.npz", "data/val/a.npz", "data/test/a.npz"):
        story.add("file_left", path=path, bytes=1)
    assert len(judge("held-out-read", story)) == count


def test_files_left_unread_warn():
    story = Story()
    for name in ("a", "b"):
        story.add("file_open", path=f"data/{name}.npz", mode="read")
    story.train([0, 1])
    for name in ("a", "b", "c", "d"):
        story.add("file_left", path=f"data/{name}.npz", bytes=1)
    assert judge("files-read", story) == []  # a test set lies beside the rest
    story.add("file_left", path="data/e.npz", bytes=1)
    (finding,) = judge("files-read", story)
    assert finding.severity == "warning"
    assert finding.evidence == {"unread": 3, "files": 5}
    switch = {"name": "BLAS_DEBUG_CPU_TYPE", "set": True, "at_import": False}
    story.add("environment_read", by="accelerate.utils.environment", **switch)
    assert len(judge("files-read", story)) == 1
    story.add("environment_read", by="my_trainer.data", **switch)
    with pytest.raises(Vacuous):
        judge("files-read", story)


def test_files_read_lazily_are_not_judged():
    story = Story()
    story.add("file_open", path="data/a.npz", mode="read")
    story.train([0, 1])
    story.add("file_open", path="data/b.npz", mode="read")
    for name in ("a", "b", "c"):
        story.add("file_left", path=f"data/{name}.npz", bytes=1)
    with pytest.raises(Vacuous):
        judge("files-read", story)


def test_inputs_of_zeros_fail_and_windows_of_zeros_warn():
    story = Story()
    zeros = fact("0", [0, 0], constant=True, min=0.0, max=0.0, values=[0.0])
    story.train([0, 1], x=zeros)
    assert wheres(judge("inputs-alive", story)) == [("model input", "error")]
    story = Story()
    story.train([0, 1], x=fact("0", [0, 1], row_rms=[0.0, 1.0]))
    assert wheres(judge("inputs-alive", story)) == [("windows", "warning")]


def test_rows_that_are_blanked_on_purpose_are_alive():
    story = Story()
    batch = story.batch([0, 1], x=fact("0", [0, 1], row_rms=[1.0, 1.0]))
    story.backward(story.forward(batch, x=fact("0", [5, 1], digest="masked", row_rms=[0.0, 1.0])))
    assert judge("inputs-alive", story) == []
    story = Story()
    story.backward(story.forward(x=fact("0", [0, 1], shape=(8,), row_rms=[0.0, 1.0])))
    assert judge("inputs-alive", story) == []  # a few features, no window


def test_channel_flat_in_every_batch_warns_and_one_that_moves_once_does_not():
    story = Story()
    story.train([0, 1], x=fact("0", [0, 1], flat=[2]))
    story.train([2, 3], 1, x=fact("0", [2, 3], flat=[2, 3]))
    assert wheres(judge("inputs-alive", story)) == [("channels", "warning")]
    story.train([4, 5], 2, x=fact("0", [4, 5], flat=[3]))
    assert judge("inputs-alive", story) == []


def test_volts_warn_and_microvolts_do_not():
    story = Story()
    story.train([0, 1], x=fact("0", [0, 1], rms=2e-5))
    assert wheres(judge("input-scale", story)) == [("model input", "warning")]
    story.train([2, 3], 1, x=fact("0", [0, 1], rms=80.0))
    assert judge("input-scale", story) == []


@pytest.mark.parametrize(("sizes", "found"), [((0.05, 0.06), 1), ((30.0, 40.0), 1), ((0.5, 4.0), 0), ((0.05, 0.9), 0)])
def test_validation_of_another_order_of_magnitude_warns(sizes, found):
    story = Story()
    for place, rows in enumerate(([0, 1], [2, 3])):
        story.train(rows, place, x=fact("0", rows, rms=1.0))
    for place, size in enumerate(sizes):
        story.validate([place], place, x=fact("0", [f"v{place}"], rms=size))
    assert wheres(judge("input-scale", story)) == [("validation input", "warning")] * found


def test_nan_through_the_model_fails_and_nan_handled_inside_passes():
    story = Story()
    bad = fact("0", [0, 1], finite=False)
    story.forward(None, x=bad, outputs=[fact("0", [0, 1], finite=True)])
    assert judge("inputs-finite", story) == []
    story.forward(None, x=bad, outputs=[fact("0", [0, 1], finite=False)])
    assert wheres(judge("inputs-finite", story)) == [("model input", "error")]


def scrambled(batch_means, input_means):
    story = Story()
    batch = story.batch([0, 1], x=fact("0", [0, 1], row_means=batch_means))
    call = story.forward(batch, x=fact("0", [7, 8], row_means=input_means, digest="other"))
    story.loss(call, batch["tensors"][1], target_from=["l1-i1", 0, "1"])
    story.backward(call)
    return story


def test_rows_cut_up_fail_and_rows_changed_within_do_not():
    assert wheres(judge("samples-whole", scrambled([0.1, 0.5], [0.3, 0.3]))) == [("model input", "error")]
    assert judge("samples-whole", scrambled([0.1, 0.5], [0.5, 0.1])) == []
    assert judge("samples-whole", scrambled([0.1, 0.5], [0.1, 0.5])) == []


def with_target(target, *, function="binary_cross_entropy_with_logits", batches=3, labels_of=(0, 1), named=None):
    story = Story()
    for place in range(batches):
        indices = [len(labels_of) * place + row for row in range(len(labels_of))]
        y = (
            [label("1", labels_of)]
            if named is None
            else [label(named, labels_of), label("valid", [1] * len(labels_of))]
        )
        batch = story.batch(indices, position=place, tensors=[fact("0", indices), *y])
        call = story.forward(batch)
        story.loss(call, target, function=function)
        story.backward(call)
        story.optimize()
    return story


def test_constant_target_beside_labels_that_vary_fails():
    assert wheres(judge("labels-reach-loss", with_target(label("target", [0, 0])))) == [("loss", "error")]


def test_label_beside_a_mask_is_known_by_its_name():
    named = with_target(label("target", [0, 0]), named="label")
    assert wheres(judge("labels-reach-loss", named)) == [("loss", "error")]
    with pytest.raises(Vacuous):
        judge("labels-reach-loss", with_target(label("target", [0, 0]), named="1"))


def test_constant_targets_of_a_discriminator_are_healthy():
    story = with_target(label("target", [1, 1]))
    story.add("optimizer", id="o1", groups=[]), story.add("optimizer", id="o2", groups=[])
    assert judge("labels-reach-loss", story) == []


def test_shares_cast_to_integers_fail_and_a_threshold_does_not():
    soft = (0.0, 0.75, 1.0, 0.25)
    assert wheres(judge("labels-reach-loss", with_target(label("target", [0, 0, 1, 0]), labels_of=soft))) == [
        ("loss", "error")
    ]
    assert judge("labels-reach-loss", with_target(label("target", [0, 1, 1, 0]), labels_of=soft)) == []


@pytest.mark.parametrize(("steps", "wanted"), [(2, [("loss", "error")]), (1, [])])
def test_prediction_compared_with_itself_fails_once_something_was_learned(steps, wanted):
    story = Story()
    for _ in range(steps):
        batch = story.batch([0, 1])
        call = story.forward(batch)
        story.loss(call, call["outputs"][0])
        story.loss(call, batch["tensors"][1])
        story.backward(call)
        story.optimize()
    assert wheres(judge("labels-reach-loss", story)) == wanted


def test_labels_rolled_before_the_loss_fail_and_mixing_does_not():
    values, rolled = (0.0, 0.2, 1.0), (1.0, 0.0, 0.2)
    story = Story()
    batch = story.batch([0, 1, 2], y=label("1", values))
    call = story.forward(batch)
    story.loss(call, label("target", rolled))
    story.backward(call)
    assert wheres(judge("labels-in-order", story)) == [("loss", "error")]
    story.loss(call, label("target", values))
    assert judge("labels-in-order", story) == []


@pytest.mark.parametrize(("shift", "count"), [(0, 0), (1, 1)])
def test_labels_rolled_in_the_batch(shift, count):
    story, probe = healthy(), Story()
    values = [0.0, 0.25, 1.0]
    probe.batch([0, 1, 2], y=label("1", values[shift:] + values[:shift]))
    for index, value in enumerate(values):
        known = {"0": fact("0", [("train", index)])["samples"][0], "1": label("1", [value])["samples"][0]}
        probe.add("reread", dataset="d1", index=index, digests=[known, known, known], mutated=[], loader="l1")
    assert len(judge("labels-in-order", story, probe=probe)) == count


def test_label_as_an_extra_channel_fails_and_an_extra_channel_of_something_else_does_not():
    for extra, count in (((1.0, 0.0), 1), ((0.3, 0.2), 0)):
        story = Story()
        batch = story.batch([0, 1], x=fact("0", [0, 1], row_means=[0.5, -0.5]), y=label("1", [1, 0]))
        means = [(4 * 0.5 + extra[0]) / 5, (4 * -0.5 + extra[1]) / 5]
        call = story.forward(batch, x=fact("0", [0, 1], shape=(5, 8), row_means=means, digest="joined"))
        story.loss(call, batch["tensors"][1], target_from=["l1-i1", 0, "1"])
        assert len(judge("labels-hidden", story)) == count


def test_one_label_throughout_warns_unless_the_trainer_says_so():
    story = Story()
    for place in range(8):
        story.train([2 * place, 2 * place + 1], place, y=label("1", [0, 0]))
    assert wheres(judge("labels-vary", story)) == [("labels", "warning")]
    story.add("warning", category="UserWarning", text="No seizures found in 16 windows!", by="x")
    with pytest.raises(Vacuous, match="itself"):
        judge("labels-vary", story)


@pytest.mark.parametrize(("shift", "count"), [(0, 0), (3, 1)])
def test_labels_that_follow_another_window(shift, count):
    loud = {5, 6, 7, 14, 15, 16}
    story = Story()
    for place in range(12):
        indices = [2 * place, 2 * place + 1]
        x = fact("0", indices, row_rms=[9.0 if index in loud else 1.0 for index in indices])
        story.train(indices, place, x=x, y=label("1", [float((index - shift) in loud) for index in indices]))
    assert len(judge("labels-follow-signal", story)) == count


def test_loader_that_drops_its_only_batch_fails():
    story = Story()
    story.dataset(length=3), story.loader(drop_last=True, batch_size=8), story.begin("l1"), story.end("l1")
    assert wheres(judge("loader-delivers", story)) == [("loader", "error")]


def test_validation_loader_that_drops_its_only_batch_fails():
    story = Story()
    story.dataset("d1"), story.loader("l1", "d1"), story.begin("l1")
    story.train([0, 1])
    story.dataset("d2", length=3), story.loader("l2", "d2", drop_last=True), story.begin("l2"), story.end("l2")
    assert wheres(judge("validation-complete", story)) == [("validation loader", "error")]


def test_iterator_made_anew_for_every_step_fails_unless_it_shuffles():
    for samples, count in ((([0, 1],) * 3, 1), (([0, 1], [5, 2], [7, 3]), 0)):
        story = Story()
        story.dataset(), story.loader()
        for number, indices in enumerate(samples, 1):
            story.begin("l1", number)
            story.train(indices, epoch=f"l1-i{number}")
        assert len(judge("batches-advance", story)) == count


def test_one_batch_used_again_while_the_loader_goes_on_fails():
    story = Story()
    story.dataset(), story.loader(), story.begin("l1")
    batch = story.batch([0, 1])
    for place in range(1, 5):
        call = story.forward(batch)
        story.backward(call), story.optimize()
        story.batch([2 * place, 2 * place + 1], position=place)
    assert wheres(judge("batches-advance", story)) == [("training loop", "error")]


def test_several_steps_on_one_batch_in_turn_are_healthy():
    story = Story()
    story.dataset(), story.loader(), story.begin("l1")
    for place in range(2):
        batch = story.batch([2 * place, 2 * place + 1], position=place)
        for _ in range(3):
            call = story.forward(batch)
            story.backward(call), story.optimize()
    assert judge("batches-advance", story) == []


def two_epochs(second, *, first=(3, 7, 1, 0, 9, 2, 4, 6, 5, 8), kind="random", epochs=(None, None), length=10):
    story = Story()
    story.dataset(length=length), story.loader(sampler_kind=kind)
    for number, order in enumerate((list(first), second), 1):
        story.begin("l1", number, sampler_epoch=epochs[number - 1])
        for place in range(0, len(order), 2):
            story.train(order[place : place + 2], place // 2, epoch=f"l1-i{number}")
    return story


def test_orders_declared_to_be_shuffled_need_no_known_sampler():
    shuffled = Target("any", train=print, shuffled=True)
    again, ascending = [3, 7, 1, 0, 9, 2, 4, 6, 5, 8], sorted(range(10))
    repeated = two_epochs(again, kind="custom")
    assert wheres(judge("order-changes", repeated, target=shuffled)) == [("training loader", "error")]
    assert judge("order-changes", two_epochs(again[::-1], kind="custom"), target=shuffled) == []
    in_order = two_epochs(ascending, kind="custom", first=ascending)
    assert wheres(judge("order-shuffled", in_order, target=shuffled)) == [("training loader", "error")]
    assert judge("order-shuffled", two_epochs([1, 4], kind="custom", first=[2, 8]), target=shuffled) == []
    assert judge("order-shuffled", repeated, target=shuffled) == []


def test_shuffled_order_that_repeats_fails_where_it_should_change():
    again = [3, 7, 1, 0, 9, 2, 4, 6, 5, 8]
    assert wheres(judge("order-changes", two_epochs(again))) == [("training loader", "error")]
    assert wheres(judge("order-changes", two_epochs(again, kind="custom", epochs=(0, 1)))) == [
        ("training loader", "error")
    ]
    assert judge("order-changes", two_epochs(again, kind="custom")) == []
    assert judge("order-changes", two_epochs(again[::-1])) == []
    assert judge("order-changes", two_epochs(again[:2], length=2)) == []


def test_training_in_the_order_of_the_data_set_warns_when_a_second_pass_begins():
    story = Story()
    story.dataset(), story.loader(sampler_kind="custom"), story.begin("l1")
    for place in range(4):
        story.train([2 * place, 2 * place + 1], place)
    assert judge("order-shuffled", story) == []
    story.begin("l1", 2)
    story.train([0, 1], epoch="l1-i2")
    assert wheres(judge("order-shuffled", story)) == [("training loader", "warning")]


def workers(states, fetches):
    story = healthy()
    for number, state in enumerate(states):
        story.add(
            "worker",
            loader="l1",
            worker=number,
            workers=len(states),
            torch_seed=number,
            numpy=state,
            python="p",
            start="fork",
            role="worker",
            pid=10 + number,
        )
        for later in fetches:
            story.add(
                "fetch",
                worker=number,
                indices=[],
                numpy_before=state + later,
                python_before="p",
                torch_before="t",
                role="worker",
                pid=10 + number,
            )
    return story


def test_workers_alike_fail_only_if_they_draw():
    assert wheres(judge("workers-differ", workers(["a", "a"], ["", "1"]))) == [("numpy generator", "error")]
    assert judge("workers-differ", workers(["a", "a"], ["", ""])) == []
    assert judge("workers-differ", workers(["a", "b"], ["", "1"])) == []


def test_iterable_data_set_delivered_by_every_worker_fails():
    for copies, count in ((2, 1), (1, 0)):
        story = Story()
        story.dataset(iterable=True), story.loader(sampler_kind="iterable", workers=2), story.begin("l1")
        for place in range(6):
            story.train([place // copies, 50 + place // copies], place)
        assert len(judge("batches-advance", story)) == count


def reread_validation(second, *, targets=None):
    story = Story()
    for number, rows in enumerate((["a", "b"], second), 1):
        story.begin("l2", number)
        y = label("1", targets[number - 1] if targets else [0, 1])
        story.validate([0, 1], epoch=f"l2-i{number}", tensors=[fact("0", rows), y])
    return story


def test_held_out_samples_that_change_fail_unless_their_targets_do_too():
    (finding,) = judge("validation-repeats", reread_validation(["c", "d"]))
    assert (finding.where, finding.severity) == ("validation data", "error")
    assert "augmentation" in finding.cause
    assert judge("validation-repeats", reread_validation(["a", "b"])) == []
    with pytest.raises(Vacuous):
        judge("validation-repeats", reread_validation(["c", "d"], targets=([0, 1], [1, 0])))


def test_noise_in_the_validation_loop_is_told_from_that_of_the_data_set():
    story = Story()
    for number in (1, 2):
        story.begin("l2", number)
        story.validate([0, 1], epoch=f"l2-i{number}", x=fact("0", [f"noisy{number}", number], digest=f"noisy{number}"))
    assert wheres(judge("validation-repeats", story)) == [("validation loop", "error")]


def test_reading_that_changes_what_is_stored_fails():
    for readings, mutated, count in (
        ("abc", ["signals[0]"], 1),
        ("aaa", [], 0),
        ("abc", [], 0),
        ("aaa", ["buffer"], 0),
    ):
        probe = Story()
        probe.add(
            "reread", dataset="d1", index=0, digests=[{"0": one} for one in readings], mutated=mutated, loader="l1"
        )
        assert len(judge("reading-changes-nothing", healthy(), probe=probe)) == count


def test_validation_that_drops_its_tail_fails_and_one_cut_short_by_a_limit_does_not():
    story = healthy()
    story.events[:] = [
        event | ({"drop_last": True, "num_samples": 5} if event["kind"] == "loader" and event["id"] == "l2" else {})
        for event in story.events
    ]
    assert wheres(judge("validation-complete", story)) == [("validation loader", "error")]
    for event in story.events:
        if event["kind"] == "epoch" and event["action"] == "end" and event["loader"] == "l2":
            event["action"] = "dropped"
    assert judge("validation-complete", story) == []


def test_validation_scored_with_older_outputs_fails():
    for second, count in ((8, 1), (4, 0)):
        story = healthy()
        trace = []
        for number, rows in ((1, 4), (2, second)):
            place = max(
                n for n, event in enumerate(story.events) if event["kind"] == "epoch" and event["id"] == f"l2-i{number}"
            )
            trace.append((place, rows))
        for place, rows in reversed(trace):
            collected = story.loss(
                {"call": None, "outputs": [fact("0", range(rows), shape=())]},
                label("target", [0, 1] * (rows // 2)),
                grad=False,
            )
            story.events.remove(collected)
            story.events.insert(place, collected)
        for n, event in enumerate(story.events):
            event["n"] = n
        assert len(judge("validation-fresh", story)) == count


def seeds(*values, restore=False):
    story = Story()
    story.add("seed", function="torch.manual_seed", value=7, by="train")
    story.train([0, 1])
    for place, value in enumerate(values, 1):
        story.begin("l2", place)
        story.add("seed", function="torch.manual_seed", value=value, by="train")
        story.validate([0, 1], epoch=f"l2-i{place}")
        if restore:
            story.add("seed", function="torch.set_rng_state", value=None, by="torch.random")
        story.train([2 * place, 2 * place + 1], place)
    return story


def test_seed_set_again_during_training_fails_unless_it_is_new_or_undone():
    assert wheres(judge("randomness-goes-on", seeds(0, 0))) == [("validation", "error")]
    assert wheres(judge("randomness-goes-on", seeds(7))) == [("validation", "error")]
    assert judge("randomness-goes-on", seeds(1, 2)) == []
    assert judge("randomness-goes-on", seeds(0, 0, restore=True)) == []


@pytest.mark.parametrize(("monitor", "count"), [("val_loss", 1), ("train_loss", None)])
def test_checkpoints_that_wait_for_a_validation_that_never_comes_fail(monitor, count):
    story = Story()
    story.dataset(), story.loader(), story.begin("l1")
    story.train([0, 1])
    story.end("l1", 1, 1)
    keys = {f"callbacks/ModelCheckpoint{{'monitor': '{monitor}', 'mode': 'min'}}/best_model_path": ""}
    story.add("checkpoint_write", path="last.ckpt", tensors={"w": {}}, scalars=keys, types={})
    if count is None:
        with pytest.raises(Vacuous):
            judge("validation-happens", story)
    else:
        assert wheres(judge("validation-happens", story)) == [("validation", "error")]
        story.validate([0, 1])
        assert judge("validation-happens", story) == []


@pytest.mark.parametrize(("positive", "count"), [(0.0, 1), (0.5, 0)])
def test_sampler_that_hardly_draws_positives_warns(positive, count):
    story = Story()
    story.dataset("d1"), story.loader("l1", "d1", sampler_kind="weighted"), story.loader("l2", "d1")
    for place in range(12):
        story.train([4 * place + row for row in range(4)], place, y=label("1", [positive * 2, 0, positive, 0]))
    for place in range(6):
        story.validate([4 * place + row for row in range(4)], place, y=label("1", [1, 0, 1, 0]))
    assert len(judge("positives-drawn", story)) == count


def test_dry_run_before_training_is_no_validation():
    story = Story()
    story.dataset(), story.loader(), story.begin("l1")
    story.forward(None, grad=False, x=fact("0", [("train", 0), ("train", 1)]))
    story.train([0, 1])
    with pytest.raises(Vacuous, match="no validation"):
        judge("split-disjoint", story)


@pytest.mark.parametrize("through_loader", [False, True])
def test_dry_run_in_evaluation_mode_is_no_validation(through_loader):
    story = Story()
    story.dataset(), story.loader(), story.begin("l1")
    if through_loader:
        story.forward(story.batch([0, 1]), training=False, grad=False)
        story.begin("l1", number=2)
    else:
        story.forward(None, training=False, grad=False, x=fact("0", [("train", 0), ("train", 1)]))
    batch = story.batch([0, 1], epoch="l1-i2" if through_loader else "l1-i1", position=0)
    story.backward(story.forward(batch))
    story.optimize()
    with pytest.raises(Vacuous, match="no validation"):
        judge("split-disjoint", story)


def test_validation_before_training_counts_if_it_comes_again():
    story = Story()
    story.dataset(), story.loader(), story.begin("l1")
    rows = [("train", row) for row in range(4)]
    story.forward(None, training=False, grad=False, x=fact("0", rows))
    story.train([0, 1]), story.train([2, 3], 1)
    story.forward(None, training=False, grad=False, x=fact("0", rows))
    assert len(validation_feeds(story.trace())) == 2


@pytest.mark.parametrize(("again", "scored", "count"), [(False, False, 0), (True, False, 4), (False, True, 4)])
def test_calls_that_help_with_each_step_are_no_validation(again, scored, count):
    story = Story()
    story.dataset(), story.loader(), story.begin("l1")
    for place in range(4):
        rows = [("pool", 0 if again else place), ("pool", 1 if again else place + 10)]
        call = story.forward(None, training=False, grad=False, x=fact("0", rows))
        if scored:
            story.loss(call, label("1", [0, 1]), grad=False)
        story.train([2 * place, 2 * place + 1], place)
    story.forward(None, training=False, grad=False, x=fact("0", [("held out", row) for row in range(5)]))
    assert len(validation_feeds(story.trace())) == count + 1


@pytest.mark.parametrize(
    ("rows", "count"),
    [
        ([(0, 3, "a"), (0, 1, "b")], 1),
        ([(0, 3, "a"), (1, 0, "b"), (0, 2, "c")], 0),
        ([(0, 3, "a"), (0, 3, "a")], 0),
        ([(0, 3, "a")], 0),
        ([(3, 0, "a"), (2, 0, "b")], 0),
    ],
    ids=["flipped alone", "now and then", "the same for all samples", "one sample", "along"],
)
def test_signals_that_are_flipped_without_their_labels(rows, count):
    probe = healthy()
    for number, (along, apart, known) in enumerate(rows):
        facts = {"dataset": "d1", "loader": "l1", "index": number, "signal": "0", "label": "1", "digest": known}
        probe.add("turned", **facts, along=along, apart=apart)
    found = judge("labels-in-order", healthy(), probe=probe)
    assert [finding.where for finding in found] == ["augmentation"] * count


def held(training, held_out):
    """Data sets with a file per sample; the samples that the run reached do not show what the files do."""
    story = healthy()
    for event in story.events:
        if event["kind"] == "dataset":
            event["files"] = {"d1": training, "d2": held_out}[event["id"]]
    return story


NIGHTS = [f"data/sleeper{sleeper:02d}-night{night}.json" for sleeper in range(4) for night in range(3)]


def test_files_that_data_sets_of_both_sides_hold():
    (finding,) = judge("split-disjoint", held(NIGHTS[:8], NIGHTS[6:]))
    assert (finding.where, finding.severity) == ("files of the data sets", "error")
    assert list(judge("split-disjoint", held(NIGHTS[:8], NIGHTS[8:]))) == []
    assert list(judge("split-disjoint", held(NIGHTS, None))) == []


@pytest.mark.parametrize(
    ("training", "held_out", "count"),
    [
        (NIGHTS[::2], NIGHTS[1::2], 1),
        (NIGHTS[:9], NIGHTS[9:], 0),
        ([name for name in NIGHTS if "night2" not in name], [name for name in NIGHTS if "night2" in name], 0),
    ],
    ids=["by file", "by sleeper", "by night"],
)
def test_patients_that_the_names_of_held_files_tell(training, held_out, count):
    try:
        found = judge("split-patients", held(training, held_out))
    except Vacuous:
        found = []
    assert wheres(found) == [("patients of the data sets' files", "warning")] * count


@pytest.mark.parametrize("names", [[f"p{n}_a.npy" for n in range(12)], [f"{n:04d}.npy" for n in range(12)]])
def test_names_that_tell_no_patient(names):
    with pytest.raises(Vacuous):
        judge("split-patients", held(names[:8], names[8:]))
