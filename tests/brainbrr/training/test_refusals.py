"""What must not train does not, says why in one message, and leaves nothing behind."""

import shutil

import pytest

from brainbrr.training.checkpoints import list_checkpoints


@pytest.fixture
def no_optimizer_step(monkeypatch):
    import torch

    def refuse(*args, **kwargs):
        pytest.fail("an optimizer was made")

    monkeypatch.setattr(torch.optim.Optimizer, "__init__", refuse)


@pytest.mark.parametrize("encoder", ["tcn", "unet"])
def test_no_seizure_stops_before_anything_else(train, tmp_path, monkeypatch, no_optimizer_step, encoder):
    monkeypatch.setenv("BGB_LIMIT_FILES", "1")
    ended = train("run", f"model.encoder={{name: {encoder}, channels: [32]}}")
    assert ended.status == 1
    assert "[FATAL] No seizures found in 9 windows!" in ended.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("encoder", ["tcn", "unet"])
def test_with_seizures_it_trains(train, tmp_path, encoder):
    assert train("run", f"model.encoder={{name: {encoder}, channels: [32]}}", "--max-steps=1").status == 0
    assert (tmp_path / "run/checkpoints/step-000001.pt").exists()


@pytest.mark.parametrize("value", ["true", "yes", "2", " 1"])
def test_smoke_mode_is_never_guessed(train, tmp_path, monkeypatch, value):
    monkeypatch.setenv("BGB_SMOKE_TEST", value)
    ended = train("run")
    assert ended.status == 2
    assert ended.err.count("\n") == 1
    assert "BGB_SMOKE_TEST" in ended.err
    assert repr(value) in ended.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("value", ["0", ""])
def test_off_is_off(train, monkeypatch, value):
    monkeypatch.setenv("BGB_SMOKE_TEST", value)
    monkeypatch.setenv("BGB_LIMIT_FILES", "1")
    assert train("run").status == 1


def test_smoke_mode_trains_without_seizures_and_marks_everything(train, tmp_path, monkeypatch):
    import json

    import torch

    monkeypatch.setenv("BGB_SMOKE_TEST", "1")
    monkeypatch.setenv("BGB_LIMIT_FILES", "1")
    ended = train("run")
    assert ended.status == 0
    said = [line for line in ended.err.splitlines() if "not for training; the weights are worthless" in line]
    assert said == [ended.err.splitlines()[0], ended.err.splitlines()[-1]]
    assert "AUROC undefined (no positive sample)" in ended.err
    assert json.loads((tmp_path / "run/run.json").read_text())["smoke"] is True
    assert all(json.loads(line)["smoke"] is True for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines())
    checkpoint = tmp_path / "run/checkpoints/step-000006.pt"
    assert torch.load(checkpoint, weights_only=True)["smoke"] is True
    monkeypatch.setenv("BGB_SMOKE_TEST", "0")
    monkeypatch.delenv("BGB_LIMIT_FILES")
    for refused in (train("other", f"--resume={checkpoint}"), train("run")):
        assert refused.status == 1
        assert "the checkpoint of a smoke run" in refused.err
    assert not (tmp_path / "other").exists()


def test_smoke_mode_does_not_go_on_in_the_folder_of_a_training_run(train, tmp_path, monkeypatch):
    assert train("run", "--max-steps=1").status == 0
    monkeypatch.setenv("BGB_SMOKE_TEST", "1")
    refused = train("run")
    assert refused.status == 1
    assert "in the folder of a training run" in refused.err
    checkpoint = tmp_path / "run/checkpoints/step-000001.pt"
    assert train("other", f"--resume={checkpoint}", "--max-steps=2").status == 0


def test_a_checkpoint_of_the_other_encoder(train, tmp_path):
    assert train("tcn", "--max-steps=1").status == 0
    checkpoint = tmp_path / "tcn/checkpoints/step-000001.pt"
    ended = train("unet", "model.encoder={name: unet, channels: [32]}", f"--resume={checkpoint}", "--override-config")
    assert ended.status == 1
    assert "a checkpoint of another encoder (got tcn, expected unet)" in ended.err
    assert ended.err.count("error:") == 1
    assert not (tmp_path / "unet").exists()


@pytest.mark.parametrize("blocked", ["file", "below a file", "read-only"])
def test_an_output_folder_that_cannot_be_written(train, tmp_path, blocked):
    if blocked == "read-only":
        folder = "/proc/1/none"
    else:
        (tmp_path / "file").write_text("here")
        folder = "file" if blocked == "file" else "file/below/more"
    ended = train(folder)
    assert ended.status == 1
    assert "the output folder cannot be written" in ended.err
    assert "--output-dir" in ended.err


def test_two_runs_do_not_share_a_folder(train, tmp_path):
    from brainbrr.training.output import OutputFolder

    with OutputFolder(tmp_path / "run").held():
        ended = train("run")
    assert ended.status == 1
    assert "another run is writing here" in ended.err


def test_a_missing_label_file(brainbrr, small_config, small_corpus, tmp_path, monkeypatch):
    corpus = tmp_path / "corpus"
    shutil.copytree(small_corpus, corpus)
    for path in sorted(corpus.rglob("*aaaaaaab*.csv*")):
        path.unlink()
    monkeypatch.setenv("BGB_DATA_DIR", str(corpus))
    ended = brainbrr("train", small_config, "--output-dir", tmp_path / "run")
    assert ended.status == 1
    assert "aaaaaaab_s001_t000" in ended.err
    assert not (tmp_path / "run").exists()


def test_an_unreadable_recording_among_good_ones(brainbrr, small_config, small_corpus, tmp_path, monkeypatch):
    corpus = tmp_path / "corpus"
    shutil.copytree(small_corpus, corpus)
    next(corpus.rglob("*aaaaaaaa*.edf")).write_bytes(b"no EDF")
    monkeypatch.setenv("BGB_DATA_DIR", str(corpus))
    args = ("train", small_config, "--output-dir", tmp_path / "run", "--max-steps", 1)
    ended = brainbrr(*args)
    assert ended.status == 1
    assert "aaaaaaaa_s001_t000.edf" in ended.err
    assert not (tmp_path / "run").exists()
    skip = ("--set", "data.on_bad_recording=skip", "--set", "data.max_skipped_share=0.5")
    skipped = brainbrr(*args, *skip)
    assert skipped.status == 0
    assert "skipped" in (tmp_path / "run/run.json").read_text()


def test_no_recordings(brainbrr, small_config, tmp_path, monkeypatch):
    monkeypatch.setenv("BGB_DATA_DIR", str(tmp_path / "empty"))
    (tmp_path / "empty").mkdir()
    ended = brainbrr("train", small_config, "--output-dir", tmp_path / "run")
    assert (ended.status, ended.err.count("\n")) == (1, 1)
    assert "no EDF file below the data directory" in ended.err


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("training.precision=fp16", "fp16 needs CUDA"),
        ("run.device=cuda", "no CUDA device here"),
        ("training.optimiser=3", "unknown key 'training.optimiser'"),
        ("training.batch_size=two", "wrong value of 'training.batch_size'"),
        ("training.optimizer.name=lion", "'adamw', 'adam' or 'sgd'"),
    ],
)
def test_a_configuration_that_cannot_be_had_here(train, tmp_path, setting, message):
    ended = train("run", setting)
    assert ended.status == 2
    assert message in ended.err
    assert not (tmp_path / "run").exists()


def test_fresh_and_resume_exclude_each_other(train):
    ended = train("run", "--fresh", "--resume=x.pt")
    assert ended.status == 2
    assert "--fresh" in ended.err


def test_a_failed_run_says_so_in_its_record_and_keeps_its_checkpoints(train, tmp_path, monkeypatch):
    import json

    from brainbrr.errors import OutputError
    from brainbrr.training import session

    write = session.write_checkpoint

    def full_at_step_3(path, content):
        if content["step"] == 3:
            raise OutputError("cannot be written: No space left on device", where=path)
        write(path, content)

    monkeypatch.setattr(session, "write_checkpoint", full_at_step_3)
    ended = train("run")
    assert ended.status == 1
    assert "No space left on device" in ended.err
    assert json.loads((tmp_path / "run/run.json").read_text())["status"].startswith("failed: OutputError")
    assert [step for step, _ in list_checkpoints(tmp_path / "run/checkpoints")] == [1, 2]
