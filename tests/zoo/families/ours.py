"""`brainbrr train` as the base: both encoders on the embedded corpus, faults planted by replacing attributes."""

from pytest_brainbrr.encoders import encoder_targets

from zoo.cases import Fault, Healthy

_DECLARED = (
    "resumable", "seeded", "prepare", "variants", "refuses_no_positives", "input_shape", "output_shape", "inner_shapes",
    "facts", "trained", "shuffled", "atomic", "verify",
)  # fmt: skip
_TARGETS = {target.name: target for target in encoder_targets()}

BASES = {
    f"ours-{name}": {
        "trainer": f"zoo.trainers.ours:{name}",
        "facts": {fact: getattr(_TARGETS[name], fact) for fact in _DECLARED},
    }
    for name in ("tcn", "unet")
    if name in _TARGETS
}

_HEALTHY = (
    ("tcn-with-seizures", "tcn", "dense labels of 0 and 1 beside a mask that is full"),
    ("unet-accumulating", "unet", "accumulation, averaged weights, scored at every step, on a class of drawn rarity"),
    ("tcn-of-short-epochs", "tcn", "a new loader for every epoch, over batches that are listed"),
)
HEALTHY = tuple(
    Healthy(f"ours-{name}", f"zoo.trainers.ours:{name.replace('-', '_')}", oddity, BASES[f"ours-{encoder}"]["facts"])
    for name, encoder, oddity in _HEALTHY
)

ROWS = [
    # reading
    ("channels-in-file-order", "tcn", "reading", "channels are taken in the file's order", "channels change places", "canary-signal"),
    ("rate-ignored", "unet", "reading", "no file is resampled", "time runs at another rate", "canary-signal"),
    ("statistics-over-both-splits", "tcn", "reading", "one scale for all recordings, held-out ones included", "recordings differ in size", "canary-signal"),
    # labels
    ("annotations-misread", "tcn", "labels", "every seizure is read as background", "no label is positive", "canary-labels"),
    ("labels-shifted", "tcn", "labels", "labels are rolled by ten seconds", "labels are not on their samples", "canary-labels"),
    ("labels-inverted", "unet", "labels", "seizure and background change places", "labels are upside down", "canary-labels no-positives"),
    ("mask-rounded-to-windows", "tcn", "labels", "one seizure sample marks the whole window", "labels are wider than the event", "canary-labels"),
    ("mask-at-another-rate", "unet", "labels", "annotations are cut at 250 Hz, signals at 256", "labels drift off their samples", "canary-labels"),
    ("valid-mask-inverted", "tcn", "loss labels", "only padding counts", "real samples do not reach the loss", "gradient-flow weight-changes labels-reach-loss"),
    # split and sampling
    ("split-by-recording", "tcn", "split", "recordings are dealt out one by one", "a patient is on both sides", "split-patients split-disjoint held-out-read"),
    ("validates-on-training-split", "unet", "split", "validation reads the training split", "validation items are trained on", "split-disjoint split-patients held-out-read"),
    ("sampler-inverted", "tcn", "sampling", "rare windows are drawn least", "positives are drawn too rarely", "positives-drawn"),
    ("order-repeats", "tcn", "sampling", "the order ignores the epoch", "every epoch has the same order", "order-changes"),
    ("order-never-shuffled", "unet", "sampling", "windows come in file order", "batches are not shuffled", "order-shuffled"),
    ("no-seizure-verdict-swallowed", "tcn", "labels", "the verdict is never asked", "trains without a positive", "no-positives"),
    ("smoke-mode-always-on", "unet", "labels configuration", "the strict door stands open", "trains without a positive", "no-positives"),
    # model
    ("head-detached", "tcn", "gradients wiring", ".detach() before the head", "the encoder gets no gradient", "gradient-flow"),
    ("encoder-frozen", "unet", "optimizer wiring", "requires_grad=False left on the encoder", "the encoder never learns", "weight-changes gradient-flow optimizer-covers-model optimizer-holds-model"),
    ("statistics-frozen", "unet", "modes", "momentum 0 in batch normalization", "running statistics never move", "statistics-move weight-changes"),
    ("constant-start", "tcn", "wiring initialization", "a convolution starts as a constant", "its units are all alike", "units-differ"),
    ("branch-cut", "tcn", "wiring gradients", "blocks return their straight path only", "branches get no gradient", "gradient-flow"),
    ("skip-cut", "unet", "wiring", "skips are multiplied by zero", "decoder weights see zeros only", "gradient-flow"),
    ("bottleneck-branch-unused", "unet", "wiring gradients", "two of three branches are never called", "they get no gradient", "gradient-flow"),
    ("batch-mixed", "tcn", "wiring batch", "the batch's mean is subtracted", "windows of a batch influence each other", "batch-independent"),
    ("dropout-always-on", "unet", "modes", "dropout without training=", "evaluation is random", "evaluation-repeats"),
    ("never-in-training-mode", "tcn", "modes", "train() leaves evaluation mode on", "trains in evaluation mode", "training-mode"),
    ("reverse-not-flipped-back", "tcn", "wiring", "the reversed half stays reversed", "its features are on other samples", "input-matters"),
    # loss
    ("loss-sign-flipped", "tcn", "loss", "the loss is negated", "steps climb the loss", "loss-direction"),
    ("loss-of-zeros", "unet", "loss labels", "the loss is given a constant for its target", "labels do not reach the loss", "labels-reach-loss"),
    ("valid-mask-ignored", "unet", "loss", "the loss is told that every sample is real", "padding trains the model", "loss-keeps-mask padding-left-out"),
    ("losses-kept", "tcn", "memory", "losses are listed with their graphs", "graphs are kept alive", "graphs-end"),
    ("loss-not-divided", "unet", "loss", "the sum over samples is never divided", "the loss grows with the batch", "loss-summed"),
    ("positive-weight-inverted", "tcn", "loss", "the rare class weighs less", "positives hardly count", "positive-weight"),
    # optimizer and schedule
    ("gradients-never-zeroed", "unet", "gradients backward", "zero_grad does nothing", "gradients add up", "gradients-cleared"),
    ("decay-of-ten", "tcn", "optimizer configuration", "weight_decay=10", "decay dominates the update", "optimizer-options configuration-echo"),
    ("decay-on-state-matrices", "tcn", "optimizer", "what is marked to be left out decays", "A, D and dt are pulled to zero", "optimizer-options"),
    ("optimizer-of-head-only", "unet", "optimizer coverage", "only the head is given to the optimizer", "the encoder never changes", "optimizer-covers-model"),
    ("optimizer-of-a-copy", "tcn", "optimizer coverage", "the optimizer holds a copy", "foreign tensors in the groups", "optimizer-holds-model optimizer-covers-model"),
    ("clipped-after-step", "unet", "clipping gradients", "gradients are clipped after the step", "clipping has no effect", "clip-before-step"),
    ("clipped-to-nothing", "tcn", "clipping gradients", "a clipping norm of 1e-9", "updates are scaled to nothing", "clip-limit updates-survive"),
    ("schedule-never-stepped", "tcn", "schedule", "schedule.step does nothing", "the rate stays at its first value", "schedule-steps"),
    ("schedule-counts-epochs", "unet", "schedule", "the horizon is two steps", "the rate is at its floor within the run", "schedule-pace"),
    ("average-never-updated", "tcn", "state", "the moving average is never updated", "validation scores the first weights", "average-follows"),
    # validation
    ("evaluated-in-training-mode", "unet", "modes buffers", "no model.eval()", "buffers move during validation", "evaluation-mode"),
    ("validation-builds-graphs", "tcn", "modes memory", "no torch.no_grad()", "validation builds graphs", "validation-without-graphs"),
    ("validation-reseeds", "unet", "determinism", "each validation sets the seed", "random numbers start over", "randomness-goes-on"),
    ("scores-out-of-range", "tcn", "metrics", "scores are divided by the wrong count", "an area above 1", "metric-range"),
    ("best-mode-inverted", "tcn", "metrics", "the lowest area counts as the best", "the worst checkpoint is kept", "best-is-best"),
    # surroundings
    ("limit-read-at-import", "tcn", "configuration", "BGB_LIMIT_FILES as it was before the run", "the limit does nothing", "run-verified"),
    ("smoke-mark-missing", "unet", "configuration", "artefacts of a smoke run carry no mark", "they pass for trained ones", "run-verified"),
    # checkpoints and resume
    ("checkpoint-in-place", "tcn", "checkpoint", "written under the final name", "a crash leaves half a file", "checkpoint-atomic"),
    ("moments-not-saved", "tcn", "resume checkpoint", "the optimizer's state is left out", "moments restart", "round-trip resume-continues checkpoint-complete"),
    ("buffers-not-saved", "unet", "checkpoint", "running statistics are left out", "buffers are lost", "checkpoint-complete round-trip"),
    ("weights-not-loaded", "tcn", "checkpoint resume", "a prefix and strict=False", "no weight is loaded", "load-takes-effect round-trip"),
    ("schedule-not-loaded", "tcn", "resume", "the schedule is saved and never loaded", "the rate starts over", "round-trip resume-continues"),
    ("moments-not-loaded", "unet", "resume", "the optimizer is saved and never loaded", "moments restart", "round-trip resume-continues"),
    ("generators-not-restored", "tcn", "resume", "generators are saved and never restored", "draws differ after resuming", "resume-continues"),
    ("epoch-restarted", "unet", "resume", "the sampler's position is not restored", "the same batches again", "resume-continues round-trip"),
    ("progress-not-loaded", "tcn", "resume", "the step counter starts over", "trains longer than planned", "resume-continues steps-taken"),
    ("average-not-loaded", "unet", "resume state", "the moving average is not loaded", "the average starts over", "resume-continues round-trip"),
    ("first-weights-saved", "tcn", "checkpoint", "weights are captured once, at the start", "checkpoints hold the first weights", "checkpoint-current"),
    ("failures-hidden", "unet", "hidden optimizer", "except Exception around the step", "every other step never happens", "errors-surface steps-taken"),
]  # fmt: skip

FAULTS = tuple(
    Fault(f"ours-{name}", f"ours-{encoder}", frozenset(kinds.split()), description, cause)
    for name, encoder, kinds, description, cause, _ in ROWS
)
DIAGNOSES = {f"ours-{name}": checks for name, *_, checks in ROWS}

INVISIBLE = frozenset({"ours-validation-builds-graphs", "ours-losses-kept", "ours-checkpoint-in-place"})
