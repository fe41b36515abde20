"""Verifiers: a step has succeeded when its products are what they have to be, whatever the exit status says.

`verify` looks into a product that was just made, `inspect` into an input. Both return facts (JSON values) for the
manifest. What `Output.expect` may hold is documented in the module of each kind.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, cast

from lstops.errors import DataError, ProductInvalid
from lstops.step.model import ArtifactKind, Output
from lstops.step.verify.common import CONFIG_IN_MODELS, Facts, InputFacts

__all__ = ["CONFIG_IN_MODELS", "Facts", "InputFacts", "inspect", "verify"]

#: imported when needed: some need PyTables or scikit-learn, which `import lstops` does not
_MODULES = {
    ArtifactKind.SIMTEL: "simtel",
    ArtifactKind.DL1: "dl1",
    ArtifactKind.DL1_MERGED: "dl1",
    ArtifactKind.DATACHECK: "datacheck",
    ArtifactKind.LSTCHAIN_CONFIG: "lstchain_config",
    ArtifactKind.MODELS: "models",
    ArtifactKind.DL2: "dl2",
    ArtifactKind.IRF: "irf",
    ArtifactKind.DL3: "dl3",
    ArtifactKind.DL3_INDEX: "dl3_index",
    ArtifactKind.FILE: "plain",
}


class _Verifier(Protocol):
    def inspect(self, path: Path) -> Facts: ...

    def check(self, output: Output, path: Path, inputs: Sequence[InputFacts]) -> Facts: ...


def _verifier(kind: ArtifactKind) -> _Verifier:
    return cast(_Verifier, importlib.import_module(f"{__name__}.{_MODULES[kind]}"))


def verify(output: Output, path: Path, inputs: Sequence[InputFacts]) -> dict[str, Any]:
    """Look into a product and say what it is.

    Parameters
    ----------
    output : Output
        What the plan expects.
    path : Path
        Where the product is now (the staging folder).
    inputs : sequence of InputFacts
        All inputs of the step.

    Returns
    -------
    dict
        Facts for the manifest.

    Raises
    ------
    ProductInvalid
        Naming the file, everything that is wrong with it, and the remedy.
    """
    try:
        return _verifier(output.kind).check(output, path, inputs)
    except DataError as error:
        raise ProductInvalid(error.what, error.remedy) from error


def inspect(kind: ArtifactKind, path: Path) -> dict[str, Any]:
    """Facts of an input that no manifest describes (event counts, versions, time span).

    Raises
    ------
    DataError
        If it cannot be read, is truncated, or is not of this kind.
    """
    return _verifier(kind).inspect(path)
