"""A script that is told its seed and what to resume from."""

from zoo.cases import Fault, Healthy

_FACTS = {
    "variants": ("normal", "no_positives", "non_finite"),
    "seed_argument": "--seed {seed}",
    "resume_argument": "--resume {checkpoint}",
    "steps_argument": "--total {steps}",
}

BASES = {"rescript": {"trainer": "resumable.py", "facts": _FACTS}}

FAULTS = tuple(
    Fault(name, "rescript", frozenset(kinds.split()), description, cause)
    for name, kinds, description, cause in (
        ("rescript-optimizer-not-saved", "resume checkpoint", "no optimizer state in the checkpoint", "moments are lost"),
        ("rescript-schedule-not-restored", "resume schedule", "the schedule is saved and not loaded", "the rate starts again"),
        ("rescript-resume-flag-ignored", "resume", "--resume is parsed and not used", "training begins anew"),
        ("rescript-step-counter-forgotten", "resume", "the step counter restarts", "too many steps after resuming"),
    )
)  # fmt: skip

HEALTHY = (
    Healthy("rescript-finds-it-itself", "resumable.py", "--resume alone: the newest checkpoint of its folder is taken", {**_FACTS, "resume_argument": "--resume"}),
    Healthy("rescript-stopped-from-outside", "resumable.py", "Not told how many steps to take: it is stopped from outside", {**_FACTS, "steps_argument": None}),
)  # fmt: skip

DIAGNOSES = {
    "rescript-optimizer-not-saved": "round-trip resume-continues",
    "rescript-schedule-not-restored": "round-trip resume-continues",
    "rescript-resume-flag-ignored": "resume-reads",
    "rescript-step-counter-forgotten": "resume-continues steps-taken",
}
