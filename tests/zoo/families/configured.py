"""What was told and what is in force: files, classes and mappings of settings, read wrongly or not at all."""

import functools

from zoo.cases import Fault, Healthy, call

_FACTS = {"resumable": False, "prepare": functools.partial(call, "zoo.trainers.configured:prepare")}

BASES = {
    "toml": {"trainer": "zoo.trainers.configured:from_file", "facts": _FACTS},
    "class": {"trainer": "zoo.trainers.configured:from_class", "facts": _FACTS},
}

_ROWS = (
    ("toml-key-misspelled", "toml", "configuration", "weigth_decay in the file", "the default is used"),
    ("toml-decay-under-another-name", "toml", "configuration", "the weight decay is not passed on", "no decay"),
    ("toml-rate-never-passed", "toml", "configuration", "the rate is not passed on", "the default is used"),
    ("toml-momentum-ignored", "toml", "configuration", "the momentum is not passed on", "no momentum"),
    ("toml-kind-ignored", "toml", "configuration", "Adam though SGD is told", "another optimizer"),
    ("toml-dropout-not-passed", "toml", "configuration", "the network has its own default", "another dropout"),
    ("toml-smoothing-not-passed", "toml", "configuration", "the loss does not smooth", "no smoothing"),
    ("toml-never-clips", "toml", "configuration clipping", "the limit is read and not used", "no clipping"),
    ("toml-batch-from-wrong-key", "toml", "configuration", "the batch size is read by another name", "the default is used"),
    ("class-attribute-of-another-name", "class", "configuration", "an attribute is set that no field has", "the default is used"),
    ("class-rate-under-another-name", "class", "configuration", "a default in place of the rate", "another rate"),
    ("class-betas-not-passed", "class", "configuration", "the betas are not passed on", "the default is used"),
    ("class-dropout-not-passed", "class", "configuration", "the network has torch's default", "another dropout"),
)  # fmt: skip

FAULTS = tuple(
    Fault(name, base, frozenset(kinds.split()), description, cause) for name, base, kinds, description, cause in _ROWS
)

_ODD = {"resumable": False}
HEALTHY = (
    Healthy("configured-scaled-by-batch", "zoo.healthy.configured:scaled_by_batch", "Rate and batch size are told for another number of samples and scaled", _ODD),
    Healthy("configured-parts", "zoo.healthy.configured:parts_of_their_own", "Two models with settings of their own, over defaults that nobody uses", _ODD),
    Healthy("configured-rate-by-hand", "zoo.healthy.configured:rate_by_hand", "A warm-up by hand, rates by depth, and fewer data than one batch", _ODD),
    Healthy("configured-overridden", "zoo.healthy.configured:overridden", "Arguments override a file, some keys of which nothing needs", _ODD),
    Healthy("configured-keeps-locals", "zoo.healthy.configured:keeps_its_locals", "A function keeps its own variables as a mapping", _ODD),
)  # fmt: skip

DIAGNOSES = {name: "configuration-echo" for name, *_ in _ROWS}
