"""Fixtures and rules for all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

REPOSITORY = Path(__file__).resolve().parents[1]


# Hypothesis: at home other examples each time; in CI (its own profile `ci`) the same ones, so that a failure comes
# from what was changed. No example has a deadline: a busy machine is no error.
settings.register_profile("home", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "home"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real data for golden tests, which is no part of the repository."""
    folder = Path(os.environ.get("LSTOPS_SHARED", REPOSITORY.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"real data not at hand: {folder} does not exist (set LSTOPS_SHARED)")
    return folder


@pytest.fixture(scope="session")
def repository() -> Path:
    """Top of the repository."""
    return REPOSITORY


#: what a machine of CI may lack, or what is tested in the other environment; any other skip there is a hole
_MAY_SKIP = ("a normal user", "tmpfs", "without cgroups", "science environment", "pandas", "joblib")


def _holes(reporter: pytest.TerminalReporter) -> list[str]:
    skipped = reporter.stats.get("skipped", []) if os.environ.get("CI") else []
    reasons = {str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr) for report in skipped}
    return sorted(reason for reason in reasons if not any(word in reason for word in _MAY_SKIP))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """In CI everything must run: a skip there is a hole in the tests, not a courtesy."""
    for reason in _holes(terminalreporter):
        terminalreporter.write_line(f"CI must not skip this: {reason}", red=True)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Make such skips fail."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if exitstatus == 0 and reporter is not None and _holes(reporter):
        session.exitstatus = 1
