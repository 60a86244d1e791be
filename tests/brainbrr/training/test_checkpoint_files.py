import os
import pickle
import random
import resource
import zipfile

import pytest
import torch

from brainbrr.atomic import atomic_path
from brainbrr.errors import CheckpointError, OutputError
from brainbrr.training.checkpoints import (
    SCHEMA,
    checkpoint_path,
    latest_checkpoint,
    list_checkpoints,
    prune_checkpoints,
    read_checkpoint,
    write_checkpoint,
)


def content(step=3, size=2000, **more):
    weights = torch.arange(size, dtype=torch.float32)
    plain = {key: {"a": [1, 2.5, None, "x"]} for key in ("config", "code", "environment", "data")}
    return {
        "schema": SCHEMA, "smoke": False, "step": step, "metrics_bytes": 0, **plain,
        "state": {"model": {"weight": weights}, "random": [(1, 2)]}, **more,
    }  # fmt: skip


def names(folder):
    return [path.name for path in folder.iterdir()]


def same(one, two):
    if isinstance(one, torch.Tensor):
        return one.dtype == two.dtype and torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    if isinstance(one, list | tuple):
        return type(one) is type(two) and len(one) == len(two) and all(map(same, one, two))
    return type(one) is type(two) and one == two


def test_round_trip(tmp_path):
    path = tmp_path / "step-000003.pt"
    write_checkpoint(path, content())
    assert same(read_checkpoint(path), content())
    assert names(tmp_path) == [path.name]


def test_every_truncation_is_recognised(tmp_path):
    path = tmp_path / "step-000003.pt"
    write_checkpoint(path, content())
    whole = path.read_bytes()
    for length in {0, 1, 100, len(whole) // 2, *range(len(whole) - 200, len(whole))}:
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            read_checkpoint(path)


def test_a_flipped_bit_is_recognised_or_without_effect(tmp_path):
    path = tmp_path / "step-000003.pt"
    write_checkpoint(path, content())
    whole = path.read_bytes()
    dice = random.Random(0)
    recognised = 0
    for _ in range(400):
        damaged = bytearray(whole)
        damaged[dice.randrange(len(whole))] ^= 1 << dice.randrange(8)
        path.write_bytes(damaged)
        try:
            loaded = read_checkpoint(path)
        except CheckpointError:
            recognised += 1
        else:
            assert same(loaded, content())
    assert recognised > 300


def test_a_flipped_bit_in_a_weight_names_the_record(tmp_path):
    path = tmp_path / "step-000003.pt"
    write_checkpoint(path, content())
    whole = bytearray(path.read_bytes())
    place = whole.index(torch.arange(100.0).numpy().tobytes()) + 200
    whole[place] ^= 1
    path.write_bytes(whole)
    assert torch.load(path, weights_only=True)  # torch alone does not notice
    with pytest.raises(CheckpointError, match=r"wrong checksum of record '[^']*/data/0'"):
        read_checkpoint(path)


class Payload:
    def __reduce__(self):
        return (os.mkdir, ("executed",))


@pytest.mark.parametrize("as_pickle", [False, True])
def test_a_hostile_pickle_is_refused_unexecuted(tmp_path, monkeypatch, as_pickle):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "step-000003.pt"
    hostile = content(evil=Payload())
    if as_pickle:
        path.write_bytes(pickle.dumps(hostile))
    else:
        torch.save(hostile, path)
    with pytest.raises(CheckpointError):
        read_checkpoint(path)
    assert not (tmp_path / "executed").exists()


def test_the_refusal_of_a_hostile_pickle_names_what_it_holds(tmp_path):
    path = tmp_path / "step-000003.pt"
    torch.save(content(evil=Payload()), path)
    with pytest.raises(CheckpointError, match=r"other than tensors and plain data.*got posix\.mkdir"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"schema": 99}, "another format .*schema 99"),
        ({"schema": None}, "another format"),
    ],
)
def test_another_schema_is_refused(tmp_path, damage, message):
    path = tmp_path / "step-000003.pt"
    write_checkpoint(path, content() | damage)
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(path)


def test_other_files_are_refused(tmp_path):
    model_only = tmp_path / "weights.pt"
    torch.save({"weight": torch.zeros(2)}, model_only)
    text = tmp_path / "text.pt"
    text.write_text("no checkpoint")
    archive = tmp_path / "archive.pt"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.txt", "no checkpoint")
    for path in (model_only, text, archive, tmp_path, tmp_path / "absent.pt"):
        with pytest.raises(CheckpointError, match=str(path.name)):
            read_checkpoint(path)


def test_what_would_not_load_is_not_written(tmp_path):
    path = tmp_path / "step-000003.pt"
    with pytest.raises(TypeError, match=r"content\['config'\]\['path'\] is a PosixPath"):
        write_checkpoint(path, content() | {"config": {"path": tmp_path}})
    assert not names(tmp_path)


def test_a_full_disk_leaves_the_checkpoint_before_it(tmp_path):
    path = tmp_path / "step-000003.pt"
    write_checkpoint(path, content())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(OutputError, match=r"step-000003\.pt: cannot be written: not all of it .* MB free"):
            write_checkpoint(path, content(step=4, size=100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert same(read_checkpoint(path), content())
    assert names(tmp_path) == [path.name]


def test_an_interrupted_write_leaves_the_file_before_it(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"before")

    def interrupted():
        with atomic_path(path) as temporary:
            temporary.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == b"before"
    assert names(tmp_path) == ["file"]


def test_the_newest_whole_checkpoint_is_used_and_the_damaged_one_said(tmp_path, caplog):
    assert latest_checkpoint(tmp_path / "absent") is None
    for step in (1, 2, 3):
        write_checkpoint(checkpoint_path(tmp_path, step), content(step))
    (tmp_path / ".step-000004.pt.123.partial").write_bytes(b"half")
    with checkpoint_path(tmp_path, 3).open("r+b") as file:
        file.truncate(1000)
    path, found = latest_checkpoint(tmp_path)
    assert (path.name, found["step"]) == ("step-000002.pt", 2)
    assert "step-000003.pt: damaged" in caplog.text
    for step in (1, 2):
        checkpoint_path(tmp_path, step).write_bytes(b"")
    with pytest.raises(CheckpointError, match="no checkpoint here is whole"):
        latest_checkpoint(tmp_path)


def test_pruning_keeps_the_newest_and_the_best(tmp_path):
    for step in range(1, 9):
        checkpoint_path(tmp_path, step).write_bytes(b"")
    (tmp_path / "mine.pt").write_bytes(b"")
    prune_checkpoints(tmp_path, keep_last=2, best=[3, 5, 1], keep_best=2)
    assert [step for step, _ in list_checkpoints(tmp_path)] == [3, 5, 7, 8]
    assert (tmp_path / "mine.pt").exists()
