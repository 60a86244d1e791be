"""Several processes."""

from training_traces import Story, only, passed, trained, vacuous


def ranks(
    *, digests=("a", "a"), inputs=("x", "y"), writers=1, wrapper="DistributedDataParallel", epochs=None, averaged=()
):
    """Two ranks with three steps each; ``digests`` and ``inputs`` name what each holds and is fed.

    Before the first step and those in ``averaged`` their weights are equal.
    """
    story = Story()
    story.events = story.events[:1]
    for rank in range(2):
        common = {"pid": 10 + rank, "role": "rank"}
        story.add("distributed", action="init", backend="gloo", rank=rank, world_size=2, **common)
        story.add("distributed", action="wrap", wrapper=wrapper, model="m0", rank=rank, world_size=2, **common)
        story.add("loader", id="l0", sampler_kind="distributed", **common)
        begun = len(story.events)
        for number in range(3):
            story.add(
                "epoch",
                id=f"i{number}",
                loader="l0",
                action="begin",
                sampler_epoch=epochs[number] if epochs else number,
                **common,
            )
            order = [3, 1, 2, 0] if epochs else [(number + place) % 4 for place in (3, 1, 2, 0)]
            story.add("batch", loader="l0", epoch=f"i{number}", position=0, indices=order, size=4, tensors=[], **common)
            call = story.forward(digest=f"{inputs[rank]}-{number}")
            story.backward([call])
            alone = 0.0 if number in (0, *averaged) or len(set(digests)) == 1 else 0.1 * rank
            each = {key: {"weight_norm": 1.0 + number + alone} for key in story.ids}
            story.stepped(digest=f"{digests[rank]}-{number}", each=each)
        if rank < writers:
            tensors = {"model/w": {"shape": [1], "dtype": "float32", "digest": "x"}}
            story.add("checkpoint_write", path="last.pt", tensors=tensors, scalars={}, types={}, **common)
        for event in story.events[begun:]:
            event.update(common)
    story.ended()
    return story


def test_ranks_that_drift_apart():
    found = only("ranks-agree", ranks(digests=("a", "b")))
    assert found.evidence == {"ranks": 2, "steps": 3}
    assert "wrapper" in found.cause
    assert passed("ranks-agree", ranks())
    assert "sharded" in vacuous("ranks-agree", ranks(wrapper="FullyShardedDataParallel"))


def test_one_rank_never_steps():
    story = ranks()
    story.events = [event for event in story.events if (event["kind"], event["pid"]) != ("step", 11)]
    assert only("ranks-agree", story).evidence == {"ranks": 2, "without_steps": 1}


def test_ranks_that_step_alone_and_are_averaged_at_times():
    assert passed("ranks-agree", ranks(digests=("a", "b"), averaged=(2,)))


def test_ranks_that_see_the_same_samples():
    assert only("ranks-share-work", ranks(inputs=("x", "x"))).evidence == {"batches": 3}
    assert passed("ranks-share-work", ranks())


def test_a_sampler_that_never_hears_of_the_epoch():
    assert only("sampler-told-epoch", ranks(epochs=[0, 0, 0])).where == "DistributedSampler"
    assert passed("sampler-told-epoch", ranks())


def test_two_writers():
    assert only("one-writer", ranks(writers=2)).evidence == {"files": 1}
    assert passed("one-writer", ranks())


def test_one_process_is_not_judged():
    for check in ("ranks-agree", "ranks-share-work", "one-writer"):
        assert vacuous(check, trained(2)) == "no training in several processes was seen"
    assert "no distributed sampler" in vacuous("sampler-told-epoch", trained(2))
