"""Hugging Face's Trainer, Lightning, Accelerate and Fabric, written as their users write them."""

from zoo.cases import Fault, Healthy

BASES = {
    "hf": {"trainer": "zoo.trainers.hf:train", "facts": {"resumable": True, "accumulation": 2}},
    "hf-lm": {"trainer": "zoo.trainers.hf_lm:train", "facts": {"resumable": True, "accumulation": 2}},
    "lit-kit": {"trainer": "zoo.trainers.lit_kit:train", "facts": {}},
    "accel-kit": {"trainer": "zoo.trainers.accel_kit:train", "facts": {"accumulation": 2}},
    "fabric-kit": {"trainer": "zoo.trainers.fabric_kit:train", "facts": {"accumulation": 2}},
}

_ROWS = [
    # base, fault, kinds, what is done, what a right diagnosis says, ids of the checks that may say it
    ("hf", "hf-evaluates-training-data", "split", "eval_dataset is a part of the training data", "held-out samples are trained on", "split-disjoint"),
    ("hf", "hf-argmax-over-samples", "metrics", "compute_metrics takes numpy's argmax over axis 0", "classes are compared along the batch", "metric-axis"),
    ("hf", "hf-best-is-worst", "metrics checkpoint", "greater_is_better=False for an accuracy", "the worst checkpoint is loaded at the end", "best-is-best"),
    ("hf", "hf-labels-named-wrong", "metrics validation", "label_names=['label'], so compute_metrics is never called", "evaluation computes nothing", "metric-computed"),
    ("hf", "hf-labels-by-a-wrong-key", "labels", "the collator reads a key that no row has, with a default", "all labels are 0", "labels-vary"),
    ("hf", "hf-drops-last-of-evaluation", "validation", "dataloader_drop_last drops the last batch of the evaluation too", "validation leaves out samples", "validation-complete"),
    ("hf", "hf-head-swapped-after-optimizer", "optimizer coverage", "the classifier is replaced after the optimizer was built", "the new head is in no group", "optimizer-holds-model optimizer-covers-model"),
    ("hf", "hf-encoder-in-no-group", "optimizer coverage", "the optimizer is given the head alone", "the encoder gets gradients and never changes", "optimizer-covers-model"),
    ("hf", "hf-schedule-of-another-optimizer", "schedule", "the schedule drives an optimizer that is not used", "the rate of the live optimizer is constant", "schedule-drives-optimizer"),
    ("hf", "hf-mean-loss-under-accumulation", "loss accumulation", "compute_loss returns a mean, which the trainer no longer divides", "gradients are k times too large", "gradients-accumulate"),
    ("hf", "hf-probabilities-into-loss", "loss", "softmax before cross_entropy in compute_loss", "probabilities into a loss of logits", "loss-input-kind"),
    ("hf", "hf-train-mode-in-loss", "modes", "compute_loss calls model.train(), in evaluation too", "validation runs in train mode", "evaluation-mode"),
    ("hf", "hf-step-without-backward", "gradients backward", "training_step is overridden and forgets accelerator.backward", "no gradients arrive", "gradients-arrive gradient-flow weight-changes gradients-fresh steps-taken"),
    ("hf", "hf-step-without-train-mode", "modes", "training_step is overridden and forgets model.train()", "training goes on in eval mode", "training-mode"),
    ("hf", "hf-callback-freezes", "gradients weights", "a callback freezes the encoder at the first evaluation", "the encoder stops learning", "gradient-flow weight-changes optimizer-covers-model"),
    ("hf", "hf-unshuffled", "data order", "_get_train_sampler returns a sequential one", "the order never changes", "order-shuffled order-changes"),
    ("hf", "hf-saves-weights-only", "resume checkpoint", "save_only_model=True, and resumed from", "the optimizer starts anew", "resume-continues round-trip"),
    ("hf", "hf-resume-begins-data-anew", "resume data", "ignore_data_skip=True", "the samples of the epoch come again", "resume-continues"),
    ("hf", "hf-average-not-saved", "resume state", "the average is not in the checkpoint", "the average starts anew", "resume-continues"),
    ("hf-lm", "hf-padding-in-loss", "labels loss", "labels of padding are not -100", "padding is trained on", "padding-ignored"),
    ("hf-lm", "hf-shifted-twice", "labels loss", "the collator shifts labels that the model shifts itself", "the token after the next is learned", "next-token"),
    ("lit-kit", "lit-one-cycle-by-epoch", "schedule", "OneCycleLR planned in steps, stepped per epoch", "the schedule is hardly begun", "schedule-pace schedule-steps"),
    ("lit-kit", "lit-monitors-stale-loss", "metrics", "self.log of the first value, for ever", "the monitored number never changes", "metric-computed"),
    ("lit-kit", "lit-validation-freezes", "gradients weights", "on_validation_start freezes the encoder", "the encoder stops learning", "gradient-flow weight-changes optimizer-covers-model"),
    ("lit-kit", "lit-manual-never-clears", "gradients backward", "manual optimization without zero_grad", "gradients of earlier steps add up", "gradients-cleared"),
    ("lit-kit", "lit-keeps-the-worst", "metrics checkpoint", "ModelCheckpoint(mode='min') of an accuracy", "the worst checkpoint is kept", "best-is-best"),
    ("lit-kit", "lit-average-not-saved", "resume state", "the callback's state_dict is empty", "the average starts anew", "resume-continues"),
    ("accel-kit", "acc-kit-raw-optimizer", "optimizer accumulation", "the optimizer that steps is not the prepared one", "a step per batch though two are to be accumulated", "gradients-accumulate steps-taken"),
    ("accel-kit", "acc-kit-raw-schedule", "schedule", "the schedule that steps is not the prepared one", "the schedule steps on batches without a step", "schedule-after-step schedule-pace"),
    ("accel-kit", "acc-kit-average-not-registered", "resume state", "the average is not registered for checkpointing", "the average starts anew", "resume-continues"),
    ("accel-kit", "acc-kit-divided-twice", "accumulation loss", "the loss is divided though accumulate() does it", "gradients are k times too small", "gradients-accumulate"),
    ("accel-kit", "acc-kit-argmax-over-samples", "metrics", "argmax over axis 0", "the wrong axis", "metric-axis"),
    ("accel-kit", "acc-kit-saves-first-weights", "checkpoint", "the weights saved at the end are those of the start", "the file is not the model", "checkpoint-current checkpoint-complete"),
    ("fabric-kit", "fabric-calls-raw-module", "precision", "the module from before setup is called, so precision is not applied", "no autocast", "autocast-on"),
    ("fabric-kit", "fabric-state-without-optimizer", "resume checkpoint", "the optimizer is not in the state", "the optimizer starts anew", "resume-continues round-trip"),
    ("fabric-kit", "fabric-sums-accumulated", "accumulation", "the loss is not divided by the number of batches accumulated", "gradients are k times too large", "gradients-accumulate"),
    ("fabric-kit", "fabric-clips-after-step", "clipping", "clip_gradients after the step", "clipping has no effect", "clip-before-step"),
]  # fmt: skip

_RESUMED = {"lit-average-not-saved", "acc-kit-average-not-registered", "fabric-state-without-optimizer"}
"""Faults whose bases resume from whole epochs only; their owners would still declare that they resume."""

FAULTS = tuple(
    Fault(name, base, frozenset(kinds.split()), description, cause, {"resumable": True} if name in _RESUMED else {})
    for base, name, kinds, description, cause, _ in _ROWS
)
DIAGNOSES = {name: checks for _, name, *_, checks in _ROWS}

HEALTHY = (
    Healthy("lit-overfits-a-batch", "zoo.healthy.kits:overfits_a_batch", "Lightning is told to overfit one batch: every epoch is that batch, in training and in validation", {"resumable": False}),
    Healthy("lit-teacher-with-statistics", "zoo.healthy.kits:teacher_with_statistics", "A slow teacher with batch normalization is called in train mode before the first training call, also after resuming"),
    Healthy("lit-manual-gan", "zoo.healthy.kits:manual_gan", "Two optimizers by hand, each wrapped by Lightning at its first step, in another order than they were made"),
    Healthy("hf-masks", "zoo.healthy.kits:hf_masks", "Transformers' Trainer hands the labels to the model, which computes its loss; some masks are all zeros"),
    Healthy("hf-sequences", "zoo.healthy.kits:hf_sequences", "Sequence to sequence: inputs and labels of one width, each with padding of its own; generation in evaluation", {"resumable": False}),
)  # fmt: skip
