"""Configuration files: what is wrong is named with its file, line, key and the nearest key."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brainbrr.config import Config, Section, config_from_mapping, load_config
from brainbrr.errors import ConfigError

GOOD = "run: {name: a, output_dir: b}\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "c.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(folder: Path, text: str, overrides: tuple[str, ...] = ()) -> str:
    path = write(folder, text)
    with pytest.raises(ConfigError) as error:
        load_config(path, overrides)
    return str(error.value).replace(str(path), "c.yaml")


def test_numbers_of_yaml_1_2(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, GOOD + "preprocessing: {clip: 5e-4, rate_hz: 256}\n"))
    assert config.preprocessing.clip == 5e-4
    assert config.preprocessing.rate_hz == 256.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "c.yaml: not a configuration (got an empty file, expected a mapping of sections)"),
        ("- 1\n", "c.yaml: not a configuration (got list, expected a mapping of sections)"),
        ("run: [1\n", "c.yaml:2: no YAML: expected ',' or ']', but got '<stream end>'"),
        ("preprocessing: {}\n", "c.yaml: missing key 'run'. Add 'run'"),
        ("run:\n  name: a\n", "c.yaml:1: missing key 'run.output_dir'. Add 'run.output_dir'"),
        (
            "run:\n  name: a\n  output_dir: b\n  sed: 3\n",
            "c.yaml:4: unknown key 'run.sed'. Did you mean 'seed'?",
        ),
        (GOOD + "preprocesing: {}\n", "c.yaml:2: unknown key 'preprocesing'. Did you mean 'preprocessing'?"),
        (
            GOOD + "training:\n  batch_size: yes\n",
            "c.yaml:3: wrong value of 'training.batch_size' (got 'yes', expected input should be a valid integer)",
        ),
        (
            GOOD + "run: {}\n",
            'c.yaml:2: no YAML: found duplicate key "run" with value "{}" (original value: "{}")',
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, message: str) -> None:
    got = refusal(tmp_path, text)
    if "duplicate key" in message:
        assert got.startswith("c.yaml:2: no YAML: found duplicate key")
    else:
        assert got == message


def test_all_problems_are_named_at_once(tmp_path: Path) -> None:
    message = refusal(tmp_path, GOOD + "training:\n  epochs: 0.5\n  batchsize: 2\n")
    assert "c.yaml:3: wrong value of 'training.epochs'" in message
    assert "c.yaml:4: unknown key 'training.batchsize'. Did you mean 'batch_size'?" in message


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such configuration file"):
        load_config(tmp_path / "absent.yaml")
    with pytest.raises(ConfigError, match="cannot be read as a configuration file"):
        load_config(tmp_path)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read as a configuration file"):
        load_config(tmp_path / "binary.yaml")


def test_overrides_win(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, GOOD), ["run.seed=4", "data.directory=demo", "run.name=b"])
    assert (config.run.seed, config.data.directory, config.run.name) == (4, "demo", "b")


@pytest.mark.parametrize("override", ["run.seed", "=3", "run..seed=3", "run.seed=[", "run.name.deeper=3"])
def test_broken_overrides_are_refused(tmp_path: Path, override: str) -> None:
    assert "--set" in refusal(tmp_path, GOOD, (override,))


def test_a_configuration_survives_being_stored(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, GOOD))
    assert config_from_mapping(config.model_dump(mode="json"), "a checkpoint") == config


def sections(section: type[Section]) -> list[type[Section]]:
    below = [field.annotation for field in section.model_fields.values()]
    children = [kind for kind in below if isinstance(kind, type) and issubclass(kind, Section)]
    return [section, *(found for child in children for found in sections(child))]


@pytest.mark.parametrize("section", sections(Config), ids=lambda section: section.__name__)
def test_every_key_is_described(section: type[Section]) -> None:
    def is_section(kind: object) -> bool:
        return isinstance(kind, type) and issubclass(kind, Section)

    fields = section.model_fields.items()
    assert [name for name, field in fields if not field.description and not is_section(field.annotation)] == []


@given(st.text(max_size=200))
def test_any_text_is_a_configuration_or_one_clear_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("any") / "c.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    with pytest.raises(ConfigError) as error:
        load_config(path)
    assert error.value.exit_status == 2
    assert "\n" not in str(error.value)
