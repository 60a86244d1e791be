"""The pytest plugin's door: options and fixtures always, everything else only with ``--smoke``.

Loading it imports neither torch nor mne nor the rest of this package.
"""

import pytest

from pytest_brainbrr.fixtures import smoke_corpus, smoke_environment, smoke_run
from pytest_brainbrr.options import add_options, smoke_is_on

__all__ = ["smoke_corpus", "smoke_environment", "smoke_run"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Register the options."""
    add_options(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Register the hooks a project may implement."""
    from pytest_brainbrr import hookspecs

    pluginmanager.add_hookspecs(hookspecs)


def pytest_configure(config: pytest.Config) -> None:
    """Register the mark; build and register the smoke session when it is asked for."""
    config.addinivalue_line(
        "markers",
        "smoke_expected_failure([check], *, reason): a smoke check that is known to fail; one that passes is reported",
    )
    if smoke_is_on(config):
        from pytest_brainbrr.session import SmokeSession

        config.pluginmanager.register(SmokeSession(config), "brainbrr-smoke-session")


def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """List the checks for ``--smoke-checks``."""
    if not config.option.smoke_checks:
        return None
    from pytest_brainbrr.report.catalogue import catalogue_lines

    print("\n".join(catalogue_lines()))
    return 0
