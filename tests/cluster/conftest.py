"""A real SLURM cluster for the cluster tests, started once a session."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from lstops.embedded.slurm_lab import SlurmLab, why_not


def require_lab() -> None:
    """Skip where no laboratory can be started; where one is required (CI), fail instead."""
    reason = why_not()
    if reason is None:
        return
    if os.environ.get("LSTOPS_REQUIRE_LAB") == "1":
        pytest.fail(f"LSTOPS_REQUIRE_LAB=1, but {reason}", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def slurm_lab() -> Iterator[SlurmLab]:
    """A running laboratory: four nodes, sshd, munge, slurmdbd; tests leave its daemons running."""
    require_lab()
    lab = SlurmLab.temporary()
    try:
        lab.start()
        yield lab
    finally:
        lab.stop(purge=True)
