"""Reading a record, and the questions it answers."""

from pathlib import Path

import pytest

from pytest_brainbrr.trace import Trace, encode


def event(kind: str, n: int, **fields: object) -> dict[str, object]:
    return {"kind": kind, "n": n, "t": float(n), "pid": 1, "role": "main", "step": 0, "after": False, **fields}


def test_files_of_several_processes_are_merged_and_a_torn_line_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "trace-1.jsonl").write_text(
        encode(event("seed", 0)) + "\n" + encode(event("seed", 2)) + "\n" + '{"kind": "se'
    )
    (tmp_path / "trace-2.jsonl").write_text(encode({**event("seed", 1), "pid": 2, "role": "worker"}) + "\n")
    trace = Trace.read(tmp_path)
    assert [found["n"] for found in trace.events("seed", role=None)] == [0, 1, 2]
    assert [found["n"] for found in trace.events("seed")] == [0, 2]


@pytest.mark.parametrize(("kind", "field"), [("sede", "value"), ("seed", "valeu")])
def test_a_misspelt_question_is_an_error(kind: str, field: str) -> None:
    with pytest.raises(KeyError):
        Trace([event("seed", 0)]).events(kind, **{field: 1})


def test_what_happened_after_the_limit_is_left_out() -> None:
    trace = Trace([event("seed", 0), event("seed", 1, after=True)])
    assert len(trace.events("seed")) == 1
    assert len(trace.events("seed", after=True)) == 2


def test_a_process_that_left_no_word_was_killed() -> None:
    trace = Trace([event("seed", 0)])
    assert trace.exit["how"] == "killed"
    assert not trace.finished


def write(n: int, path: str | None) -> dict[str, object]:
    return event("checkpoint_write", n, path=path, tensors={"w": {}}, scalars={}, types={})


def test_renames_are_followed_to_the_end() -> None:
    trace = Trace(
        [
            write(0, "a.tmp"),
            event("rename", 1, source="a.tmp", to="a.pt"),
            write(2, "dir.tmp/b.pt"),
            event("rename", 3, source="dir.tmp", to="dir"),
            write(4, "c.pt"),
            write(5, None),
            event("file_open", 6, path="d.pt", mode="write"),
        ]
    )
    assert [(found["final"], found["atomic"]) for found in trace.checkpoints] == [
        ("a.pt", True),
        ("dir/b.pt", True),
        ("c.pt", False),
        ("d.pt", False),
    ]


def test_a_part_called_before_its_owner_was_known_is_no_model() -> None:
    def model(n: int, name: str, *parameters: str) -> dict[str, object]:
        facts = [{"id": key, "name": key, "requires_grad": True} for key in parameters]
        return event("model", n, id=name, label=name, parameters=facts, buffers=[], wrapper=False)

    trace = Trace([model(0, "m0", "p1"), model(1, "m1", "p0", "p1"), model(2, "m2", "p2")])
    assert set(trace.models) == {"m1", "m2"}
    assert trace.parameters["p1"]["name"] == "m1/p1"
