"""Seizure trainers of three hands: Lightning with a YAML file, a notebook turned into a script, Accelerate with dense labels.

Each fault is an edit of the trainer's source; see ``zoo.trainers.eeg_rigs``. Some cannot be seen from outside and stay
here all the same, with the check that would have to see them.
"""

import importlib

from zoo.cases import Fault

_VARIANTS = ("normal", "no_positives", "non_finite")


class Prepare:
    """Lay out the recordings of one rig; imports it when called."""

    def __init__(self, rig):
        self.rig = rig

    def __call__(self, run):
        importlib.import_module(f"zoo.trainers.eeg_rigs.{self.rig}_rig").prepare(run)


BASES = {
    "eegl": {
        "trainer": "zoo.trainers.eeg_rigs:lightning",
        "facts": {"resumable": True, "variants": _VARIANTS, "refuses_no_positives": True, "prepare": Prepare("lightning")},
    },
    "eegn": {
        "trainer": "zoo.trainers.eeg_rigs:notebook",
        "facts": {"resumable": True, "variants": ("normal", "non_finite"), "prepare": Prepare("notebook")},
    },
    "eega": {
        "trainer": "zoo.trainers.eeg_rigs:accelerated",
        "facts": {"resumable": True, "variants": _VARIANTS, "accumulation": 2, "prepare": Prepare("accelerate")},
    },
}  # fmt: skip

INVISIBLE = frozenset({"eegn-running-loss-with-graph", "eega-validation-with-graphs"})
"""Faults that leave the same files behind as the base: they cost memory or time."""

_ROWS = (
    # fault, kinds, what is done, what a right diagnosis says, ids of the checks that may say it
    ("eegl-rate-by-another-key", "configuration optimizer", "the rate is read by a key that the file lacks", "the rate of the file is not in force", "configuration-echo"),
    ("eegl-dropout-not-passed", "configuration", "dropout is read and not passed on", "the default is in force", "configuration-echo"),
    ("eegl-channels-in-file-order", "reading", "channels are taken in each file's order", "channels are mixed", "canary-signal input-scale reading-changes-nothing"),
    ("eegl-gaps-filled-with-zeros", "reading hidden", "NaN becomes 0 in the reader", "gaps are hidden", "non-finite-said nan-surfaces"),
    ("eegl-labels-upside-down", "labels", "the comparison of overlap is inverted", "labels inverted", "labels-follow-signal canary-labels positive-weight no-positives"),
    ("eegl-scaled-with-validation", "split", "mean and deviation are taken over all recordings", "held-out recordings matter to training", "held-out-apart"),
    ("eegl-split-by-recording", "split", "recordings are split, not patients", "patients on both sides", "split-patients"),
    ("eegl-constant-init", "wiring", "convolutions begin as constants", "units are alike", "units-differ"),
    ("eegl-softmax-in-forward", "loss", "softmax in the model and cross entropy outside", "probabilities into a loss of logits", "loss-input-kind"),
    ("eegl-class-weights-inverted", "loss", "class weights grow with the counts", "the rare class weighs less", "positive-weight"),
    ("eegl-clip-limit-typo", "clipping", "gradients are clipped to 1e-9", "updates vanish", "clip-limit updates-survive"),
    ("eegl-weights-in-bf16", "precision", "weights are bf16 and the rate is small", "updates are rounded away", "updates-survive weight-changes"),
    ("eegl-features-left-frozen", "weights optimizer", "the features stay frozen", "the features never learn", "weight-changes gradient-flow optimizer-covers-model optimizer-holds-model"),
    ("eegl-warmup-by-integers", "schedule optimizer", "warm-up divides integers", "the rate is 0", "rate-positive weight-changes"),
    ("eegl-cosine-at-every-step", "schedule", "a schedule of epochs is stepped at every batch", "the rate reaches 0 early", "schedule-pace rate-positive schedule-steps"),
    ("eegl-softmax-over-windows", "metrics", "probabilities of the metric are normalized over the batch", "the wrong axis", "metric-axis scores-of-outputs"),
    ("eegl-keeps-worst-loss", "metrics checkpoint", "mode max for a loss", "the worst is kept", "best-is-best"),
    ("eegl-resumes-weights-by-hand", "resume checkpoint", "weights are loaded under other names, not strictly", "nothing is loaded", "resume-continues load-takes-effect"),
    ("eegn-decay-parsed-only", "configuration optimizer", "--wd is parsed and not used", "the default is in force", "configuration-echo"),
    ("eegn-volts", "reading", "volts are not converted", "inputs are 1e-6 of what is meant", "input-scale canary-signal"),
    ("eegn-table-of-pairs", "loss", "(B,) against (B, 1)", "a table of pairs", "loss-shapes shapes"),
    ("eegn-validates-on-train-files", "split", "validation reads the training files", "validated on training data", "split-disjoint"),
    ("eegn-sampler-by-counts", "sampling", "weights of the sampler are the counts", "the frequent class is drawn more", "sampler-fits positives-drawn"),
    ("eegn-workers-share-noise", "augmentation", "every worker seeds numpy alike", "the same noise in every worker and epoch", "workers-differ randomness-goes-on"),
    ("eegn-noise-in-validation", "augmentation", "augmentation is on in validation", "validation is random", "validation-repeats"),
    ("eegn-noise-never", "augmentation", "a division of integers makes the probability 0", "no augmentation", "reading-changes-nothing configuration-echo"),
    ("eegn-features-as-data", "gradients wiring", ".data after the convolutions", "the convolutions get no gradient", "gradient-flow"),
    ("eegn-lstm-time-first", "batch wiring", "batch_first is missing", "samples are mixed", "batch-independent samples-whole"),
    ("eegn-eval-sticks", "modes", "model.train() is outside of the loop of epochs", "training in eval mode", "training-mode"),
    ("eegn-minus-forgotten", "loss", "the focal loss lacks its minus", "the loss is maximized", "loss-direction"),
    ("eegn-zero-grad-after-backward", "backward", "gradients are cleared between backward and step", "no gradient at the step", "gradients-arrive gradient-flow weight-changes"),
    ("eegn-running-loss-with-graph", "memory", "the running loss keeps graphs", "graphs stay alive", "graphs-end"),
    ("eegn-bad-batches-passed-over", "hidden", "a loss that is NaN is passed over", "NaN is hidden", "nan-surfaces non-finite-said"),
    ("eegn-clips-scaled", "clipping", "clips before unscaling", "scaled gradients are clipped", "clip-unscaled"),
    ("eegn-fp16-without-scaler", "precision", "the scaler is off because a name of a type does not match", "fp16 without scaling", "loss-scaled"),
    ("eegn-head-changed-after-optimizer", "optimizer", "the head is replaced after the optimizer was made", "the new head is in no group", "optimizer-holds-model optimizer-covers-model"),
    ("eegn-horizon-in-epochs", "schedule", "the horizon is a number of epochs, steps are counted", "the rate reaches 0 early", "schedule-pace rate-positive"),
    ("eegn-average-stays-after-validation", "state", "the average is not swapped out", "training goes on from the average", "average-swapped-out validation-keeps-weights"),
    ("eegn-average-of-first-weights", "state", "the average waits for epoch 6", "the average is validated and never follows", "average-follows"),
    ("eegn-average-not-resumed", "resume state", "the average is saved and not loaded", "the average starts anew", "resume-continues round-trip"),
    ("eegn-statistics-not-saved", "checkpoint", "parameters are saved without buffers", "statistics are lost", "checkpoint-complete round-trip resume-continues"),
    ("eega-seeds-after-model", "determinism configuration", "seeds are set after the model is made", "runs differ", "repeats"),
    ("eega-unreadable-as-zeros", "reading hidden", "an error of reading becomes zeros", "dead windows", "inputs-alive files-read errors-surface"),
    ("eega-events-by-stem", "labels reading", "events are kept by stem, and stems collide between sites", "labels of another site", "labels-follow-signal canary-labels labels-in-order"),
    ("eega-labels-a-second-late", "labels", "labels are shifted by two seconds", "labels beside the signal", "labels-follow-signal canary-labels"),
    ("eega-events-by-another-name", "labels", "events are looked for under a name that no table uses", "all labels are 0", "labels-vary"),
    ("eega-fractions-cut-off", "labels", "fractions become integers", "soft labels are cut off", "canary-labels"),
    ("eega-tails-left-out", "window", "the last window of a recording is left out", "the end is never read", "files-read canary-signal"),
    ("eega-same-order-in-every-epoch", "sampling", "the order does not depend on the epoch", "the same order again", "order-changes"),
    ("eega-validation-drops-last", "validation", "validation drops its last batch", "samples left out", "validation-complete"),
    ("eega-blocks-in-a-list", "wiring optimizer", "blocks stand in a list", "blocks are no part of the model", "parameters-registered"),
    ("eega-skip-not-joined", "gradients wiring", "the skip connection is not used", "the skip gets no gradient", "gradient-flow"),
    ("eega-logits-cut-to-labels", "wiring", "outputs are cut to the labels' length instead of pooled", "most outputs are unused", "input-matters canary-labels labels-follow-signal"),
    ("eega-validates-in-train-mode", "modes", "no eval() in validation", "validation runs in train mode", "evaluation-mode"),
    ("eega-dropout-at-all-times", "modes", "F.dropout without training", "dropout in evaluation", "evaluation-repeats"),
    ("eega-validation-with-graphs", "modes memory", "no no_grad in validation", "graphs are built", "validation-without-graphs"),
    ("eega-sum-over-samples", "loss", "the loss is a sum over samples", "the loss grows with the batch", "loss-summed"),
    ("eega-artefacts-train", "loss labels", "the mask of artefacts and padding is ignored", "padding is trained on", "mask-on-padding loss-keeps-mask padding-left-out"),
    ("eega-backward-of-torch", "accumulation", "loss.backward() instead of accelerator.backward(loss)", "gradients are k times too large", "gradients-accumulate"),
    ("eega-backward-when-synced", "backward accumulation", "backward only when gradients are synchronized", "every second batch is lost", "gradients-accumulate gradients-arrive loss-graph"),
    ("eega-middle-in-no-group", "optimizer", "groups by name leave the middle out", "the middle never changes", "optimizer-covers-model"),
    ("eega-schedule-not-stepped", "schedule", "the schedule is never stepped", "the rate stays", "schedule-steps"),
    ("eega-scores-of-last-batch", "metrics", "lists are emptied at every batch", "scores of the last batch", "scores-of-outputs"),
    ("eega-schedule-not-prepared", "resume schedule", "the schedule is not prepared, so not in the checkpoint", "the rate starts again", "resume-continues"),
    ("eega-progress-not-registered", "resume", "epoch and best are not in the checkpoint", "epochs are counted anew", "resume-continues steps-taken"),
    ("eega-epoch-of-loader-not-told", "resume data", "the loader is not told the epoch", "the order of the first epoch comes again", "resume-continues"),
)  # fmt: skip

FAULTS = tuple(Fault(name, name[:4], frozenset(kinds.split()), what, cause) for name, kinds, what, cause, _ in _ROWS)
DIAGNOSES = {name: checks for name, *_, checks in _ROWS}
