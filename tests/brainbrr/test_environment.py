"""The environment variables: exact values only, read when asked."""

from pathlib import Path

import pytest

from brainbrr import environment
from brainbrr.errors import ConfigError


@pytest.mark.parametrize(("value", "on"), [(None, False), ("", False), ("0", False), ("1", True)])
def test_smoke_mode_is_on_for_1_only(monkeypatch: pytest.MonkeyPatch, value: str | None, on: bool) -> None:
    if value is not None:
        monkeypatch.setenv("BGB_SMOKE_TEST", value)
    assert environment.smoke_test() is on


@pytest.mark.parametrize("value", ["true", "yes", "2", "on", " 1", "01", "-1"])
def test_other_values_of_smoke_mode_are_errors(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("BGB_SMOKE_TEST", value)
    with pytest.raises(ConfigError) as error:
        environment.smoke_test()
    assert str(error.value) == (
        f"BGB_SMOKE_TEST: unknown value of an environment variable (got {value!r}, expected 1 (on) or 0 (off))"
    )
    assert error.value.exit_status == 2


@pytest.mark.parametrize(("value", "limit"), [(None, None), ("", None), ("1", 1), ("12", 12)])
def test_the_limit_is_a_positive_integer(monkeypatch: pytest.MonkeyPatch, value: str | None, limit: int | None) -> None:
    if value is not None:
        monkeypatch.setenv("BGB_LIMIT_FILES", value)
    assert environment.limit_files() == limit


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "three", "1e3", "²", "٣", " 3"])
def test_other_limits_are_errors(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("BGB_LIMIT_FILES", value)
    with pytest.raises(
        ConfigError, match=r"^BGB_LIMIT_FILES: not a number of recordings \(got .*a positive integer\)$"
    ):
        environment.limit_files()


def test_variables_are_read_when_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert environment.data_dir() is None
    monkeypatch.setenv("BGB_DATA_DIR", str(tmp_path))
    assert environment.data_dir() == tmp_path
    monkeypatch.setenv("BGB_CACHE_DIR", str(tmp_path / "cache"))
    assert environment.cache_dir() == tmp_path / "cache"
    assert environment.in_force() == {"BGB_DATA_DIR": str(tmp_path), "BGB_CACHE_DIR": str(tmp_path / "cache")}
