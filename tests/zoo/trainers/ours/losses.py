"""Faults of the loss."""

from zoo.trainers.ours.planting import plants


def _changed_loss(change):
    from brainbrr.training import session

    original = session.build_loss

    def build_loss(*args):
        loss = original(*args)
        return lambda logits, label, valid: change(loss, logits, label, valid)

    yield session, "build_loss", build_loss


@plants
def loss_sign_flipped():
    yield from _changed_loss(lambda loss, *args: -loss(*args))


@plants
def loss_of_zeros():
    yield from _changed_loss(lambda loss, logits, label, valid: loss(logits, label * 0 + 0.5, valid))


@plants
def valid_mask_ignored():
    yield from _changed_loss(lambda loss, logits, label, valid: loss(logits, label, valid | True))


@plants
def losses_kept():
    kept = []

    def change(loss, *args):
        kept.append(loss(*args))
        return kept[-1]

    yield from _changed_loss(change)


@plants
def loss_not_divided():
    from brainbrr.training.loop import Loop

    original = Loop._agree

    def agree(self, group):
        original(self, group)
        return 1.0

    yield Loop, "_agree", agree


@plants
def positive_weight_inverted():
    from brainbrr.training import session

    original = session.positive_weight
    yield session, "positive_weight", lambda *args: 1 / max(original(*args), 10.0)
