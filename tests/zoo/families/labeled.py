"""Labels per sample, per window and beside a table: losses that forget them, inputs that hold them."""

from zoo.cases import Fault, Healthy

_FACTS = {"resumable": False, "variants": ("normal", "no_positives", "non_finite")}

BASES = {
    "dice": {"trainer": "zoo.trainers.labeled:segment", "facts": _FACTS},
    "tag": {"trainer": "zoo.trainers.labeled:tag", "facts": _FACTS},
    "table": {"trainer": "zoo.trainers.labeled:table", "facts": _FACTS},
}

FAULTS = tuple(
    Fault(name, base, frozenset(kinds.split()), description, cause)
    for name, base, kinds, description, cause in (
        ("dice-target-made-anew", "dice", "labels loss", "zeros take the place of the mask in a loss written by hand", "labels do not reach the loss"),
        ("dice-against-itself", "dice", "labels loss", "the prediction's own threshold takes the place of the mask", "labels do not reach the loss"),
        ("tag-mask-is-a-channel", "tag", "labels", "the data set holds the mask as a fifth channel", "inputs hold the label"),
        ("table-keeps-label-column", "table", "labels", "the label stays among the columns of the table", "inputs hold the label"),
        ("table-label-written-into-input", "table", "labels", "a column is overwritten with the label before the call", "inputs hold the label"),
    )
)  # fmt: skip

HEALTHY = (
    Healthy("density", "zoo.healthy.labeled:density", "A density is fitted; labels are delivered and not used", {"resumable": False}),
    Healthy("class-conditional", "zoo.healthy.labeled:class_conditional", "The class is joined to the input of a decoder on purpose", {"resumable": False}),
    Healthy("augmented-by-class", "zoo.healthy.labeled:augmented_by_class", "Only the rare class is augmented, so inputs depend on labels", {"resumable": False}),
    Healthy("copied", "zoo.healthy.labeled:copied", "The label is a function of the only input channel", {"resumable": False}),
    Healthy("taught-only", "zoo.healthy.labeled:taught_only", "A teacher is the only source of training, labels serve validation", {"resumable": False}),
)  # fmt: skip

DIAGNOSES = {
    "dice-target-made-anew": "labels-matter",
    "dice-against-itself": "labels-matter",
    "tag-mask-is-a-channel": "labels-hidden",
    "table-keeps-label-column": "labels-hidden",
    "table-label-written-into-input": "labels-hidden",
}
