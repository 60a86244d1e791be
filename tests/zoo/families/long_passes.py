"""A script whose first pass is longer than a smoke run: what it does after a pass shows only where passes are cut."""

from zoo.cases import VARIANTS, Fault

BASES = {
    "long": {
        "trainer": "long_passes.py",
        "facts": {
            "variants": VARIANTS[:1],
            "seed_argument": "--seed {seed}",
            "resume_argument": "--resume {checkpoint}",
        },
    }
}

FAULTS = tuple(
    Fault(name, "long", frozenset(kinds.split()), description, cause)
    for name, kinds, description, cause in (
        ("long-eval-forgotten", "modes", "the average is scored in training mode", "dropout in validation"),
        ("long-eval-stays", "modes", "the model stays in evaluation mode after the first pass", "no dropout any more"),
        ("long-weights-overwritten", "state", "the averaged weights stay in the model", "training goes on from the average"),
        ("long-schedule-never-stepped", "schedule", "the schedule of epochs is never stepped", "the rate stays"),
        ("long-validates-on-training", "split", "the validation loader reads the training data", "scores are too good"),
        ("long-seed-in-loop", "determinism", "the seed is set in every epoch", "order and dropout repeat"),
        ("long-first-weights-saved", "checkpoint", "the weights of the start are saved", "training is lost"),
        ("long-optimizer-not-saved", "checkpoint resume", "no optimizer state in the checkpoint", "moments are lost"),
        ("long-schedule-not-restored", "resume schedule", "the schedule is saved and not loaded", "the rate starts again"),
    )
)  # fmt: skip

DIAGNOSES = {
    "long-eval-forgotten": "evaluation-mode",
    "long-eval-stays": "training-mode",
    "long-weights-overwritten": "validation-keeps-weights average-swapped-out",
    "long-schedule-never-stepped": "schedule-steps",
    "long-validates-on-training": "split-disjoint",
    "long-seed-in-loop": "randomness-goes-on order-changes",
    "long-first-weights-saved": "checkpoint-current round-trip",
    "long-optimizer-not-saved": "round-trip resume-continues",
    "long-schedule-not-restored": "round-trip resume-continues",
}
