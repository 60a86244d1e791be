"""Schedules follow, drive and keep pace with their optimizers."""

from training_traces import Story, only, passed, vacuous


def scheduled(steps=4, *, order="after", kind="LambdaLR", per=1, every=1, **fields):
    story = Story()
    story.optimizer()
    story.schedule("init", kind, **fields)
    for number in range(steps):
        moves = [("step", kind)] * per if (number + 1) % every == 0 else []
        story.backward([story.forward()])
        if order == "before":
            for move in moves:
                story.schedule(*move, **fields)
        story.stepped()
        if order == "after":
            for place, move in enumerate(moves):
                story.schedule(*move, **{"last_epoch": number * per + place + 1, **fields})
    story.ended()
    return story


def test_a_schedule_before_its_optimizer():
    assert only("schedule-after-step", scheduled(order="before")).where == "LambdaLR"
    assert passed("schedule-after-step", scheduled())


def test_a_first_step_that_the_scaler_skipped_counts():
    story = Story()
    story.optimizer()
    story.schedule("init")
    story.scaler("step", skipped=True)
    story.schedule()
    story.backward([story.forward()])
    story.stepped()
    story.schedule()
    story.ended()
    assert passed("schedule-after-step", story)


def replaced(follows):
    story = Story()
    story.optimizer("o0")
    story.schedule("init", optimizer="o0")
    story.optimizer("o1")
    for rate in (0.1, 0.2, 0.3):
        story.backward([story.forward()])
        story.stepped("o1", lr=rate if follows else 0.1)
        story.schedule(optimizer="o0", rates=[rate + 0.1])
    story.ended()
    return story


def test_a_schedule_of_an_optimizer_that_never_steps():
    assert only("schedule-drives-optimizer", replaced(follows=False)).where == "LambdaLR"
    assert passed("schedule-drives-optimizer", replaced(follows=True))


def epochs(moves, kind="LambdaLR"):
    story = Story()
    story.optimizer()
    story.schedule("init", kind)
    story.loader()
    for number in range(4):
        if number % 2 == 0:
            epoch = story.iterate()
        story.batch(epoch=epoch, position=number % 2)
        story.backward([story.forward(loader=[epoch, number % 2])])
        story.stepped()
        if number % 2:
            story.iterate(action="end", batches=2)
            if moves:
                story.schedule(kind=kind)
    story.ended()
    return story


def test_a_schedule_nobody_steps():
    assert only("schedule-steps", epochs(moves=False)).evidence == {"steps": 4, "epochs": 1}
    assert passed("schedule-steps", epochs(moves=True))
    assert "no epoch ended" in vacuous("schedule-steps", scheduled(every=99))
    assert "no epoch ended" in vacuous("schedule-steps", epochs(moves=False, kind="ReduceLROnPlateau"))


def test_a_schedule_stepped_twice():
    assert only("schedule-pace", scheduled(per=2)).evidence == {"schedule_steps": 8, "optimizer_steps": 4}
    assert passed("schedule-pace", scheduled())


def test_a_cosine_beyond_its_end():
    found = only("schedule-pace", scheduled(kind="CosineAnnealingLR", options={"T_max": 2}))
    assert found.evidence == {"t_max": 2, "steps": 4}
    assert passed("schedule-pace", scheduled(kind="CosineAnnealingLR", options={"T_max": 4}))


def test_a_floor_that_is_reached_early():
    def judged(*rates):
        story = Story()
        story.optimizer()
        story.schedule("init")
        for number, rate in enumerate(rates):
            story.backward([story.forward()])
            story.stepped(lr=rate)
            story.schedule(last_epoch=number + 1)
        story.ended()
        return story

    found = only("schedule-pace", judged(1.0, 0.5, 0.01, 0.01, 0.01))
    assert (found.severity, found.evidence) == ("warning", {"highest": 1.0, "floor": 0.01})
    assert passed("schedule-pace", judged(1.0, 0.5, 0.1, 0.02, 0.01))
    assert passed("schedule-pace", judged(0.01, 0.01, 0.01, 0.01))
    assert passed("schedule-pace", judged(1.0, 0.1, 0.1, 0.1, 0.1))


def test_no_schedule():
    story = Story()
    story.ended()
    for check in ("schedule-after-step", "schedule-steps", "schedule-pace"):
        assert vacuous(check, story) == "no torch learning-rate scheduler was made"
