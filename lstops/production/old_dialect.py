"""The dialect of lstmcpipe before 2022-04: particles and pointings instead of paths, `stages_to_be_run`.

The present lstmcpipe refuses it. It is read as it is (`OldProduction`) and converted into stages and paths, by the
folder scheme that both dialects share: BASE/LEVEL/OBS_DATE/PARTICLE/ZENITH/POINTING/PROD_ID.
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, model_validator

from lstops.production.documents import InvalidProductionError, problems_of
from lstops.step.model import Frozen

_OLD_ONLY = ("stages_to_be_run", "particles", "offset_gammas", "obs_date")


class OldStage(str, Enum):
    """Stage names of the old dialect."""

    R0_TO_DL1 = "r0_to_dl1"
    DL1AB = "dl1ab"
    MERGE = "merge_and_copy_dl1"
    TRAIN = "train_pipe"
    DL2 = "dl1_to_dl2"
    IRFS = "dl2_to_irfs"
    SENSITIVITY = "dl2_to_sensitivity"


class OldParticle(str, Enum):
    """Particle folders of prod5."""

    ELECTRON = "electron"
    GAMMA = "gamma"
    GAMMA_DIFFUSE = "gamma-diffuse"
    PROTON = "proton"


class OldEnvironment(Frozen):
    """As in the present dialect."""

    source_file: str
    conda_env: str


class OldIrfConfig(Frozen):
    """Which IRF to make."""

    point_like: bool = True
    gamma_offset: str


class OldMerging(Frozen):
    """How to merge."""

    no_image: bool = False


class OldSlurm(Frozen):
    """As in the present dialect."""

    user_account: str = ""


class OldProduction(Frozen):
    """One YAML of the old dialect."""

    workflow_kind: str
    prod_id: str
    base_path: str | None = None
    base_path_dl0: str | None = None
    dl1_reference_id: str | None = None
    prod_type: str
    obs_date: str
    zenith: str
    pointing: str
    particles: tuple[OldParticle, ...] = Field(min_length=1)
    offset_gammas: tuple[str, ...] = ()
    source_environment: OldEnvironment
    irf_config: OldIrfConfig | None = None
    stages_to_be_run: tuple[OldStage, ...] = Field(min_length=1)
    merging_options: OldMerging | None = None
    slurm_config: OldSlurm | None = None

    @model_validator(mode="after")
    def _base_and_reference(self) -> OldProduction:
        if not (self.base_path or self.base_path_dl0):
            raise ValueError("base_path (or base_path_dl0) is missing")
        if OldStage.DL1AB in self.stages_to_be_run and not self.dl1_reference_id:
            raise ValueError("dl1ab needs dl1_reference_id, the production that made the DL1")
        return self

    def to_document(self) -> dict[str, Any]:
        """The mapping as it was read."""
        return self.model_dump(mode="json", exclude_unset=True)


def is_old_dialect(document: dict[str, Any]) -> bool:
    """Whether a mapping is of the old dialect."""
    return "stages" not in document and "stages_to_run" not in document and any(key in document for key in _OLD_ONLY)


def read_old(document: dict[str, Any], where: Path | str) -> OldProduction:
    """Check a mapping of the old dialect.

    Raises
    ------
    InvalidProductionError
        Naming each wrong key, with the nearest right one.
    """
    try:
        return OldProduction.model_validate(document)
    except ValidationError as error:
        raise InvalidProductionError(where, problems_of(error, OldProduction)) from error


class _Tree:
    """Paths of one old production."""

    def __init__(self, old: OldProduction, prod_id: str) -> None:
        self.old, self.prod_id = old, prod_id
        self.base = (old.base_path or old.base_path_dl0 or "").rstrip("/")

    def folder(self, level: str, particle: str, prod_id: str, offset: str | None) -> str:
        base = self.base.removesuffix("/mc") if level == "models" else self.base
        parts = [base, level, self.old.obs_date, particle, self.old.zenith, self.old.pointing, prod_id, offset]
        return "/".join(part for part in parts if part)

    def sets(self) -> list[tuple[str, str | None]]:
        """Particle and, for point-like gammas, source offset."""
        made: list[tuple[str, str | None]] = []
        for particle in self.old.particles:
            offsets = self.old.offset_gammas if particle is OldParticle.GAMMA else ()
            made.extend((particle.value, offset) for offset in offsets or (None,))
        return made

    def merged(self, particle: str, offset: str | None, part: str) -> str:
        # with its offset in the name: the two offsets of one particle must not meet in one file name
        name = f"{particle}_{offset}" if offset else particle
        return f"{self.folder('DL1', particle, self.prod_id, offset)}/dl1_{name}_{self.prod_id}_{part}.h5"

    def dl2(self, particle: str, offset: str | None) -> str:
        name = self.merged(particle, offset, "test").rsplit("/", 1)[1].replace("dl1", "dl2", 1)
        return f"{self.folder('DL2', particle, self.prod_id, offset)}/{name}"

    @property
    def models(self) -> str:
        return self.folder("models", "", self.prod_id, None)


def full_prod_id(old: OldProduction, folder: str) -> str:
    """The name of the production's folders: with date, version and data set, as the YAML's folder has it."""
    return folder if folder.endswith(old.prod_id) else old.prod_id


def convert(old: OldProduction, folder: str = "") -> dict[str, Any]:
    """Convert to the present dialect.

    Parameters
    ----------
    folder : str
        Name of the folder of the YAML, which is the production's full name in the published ones.

    Returns
    -------
    dict
        A mapping of the present dialect. `merge_and_copy_dl1` becomes `train_test_split` and `merge_dl1`; after dl1ab
        there is no split, because the reference production's is taken over.
    """
    tree = _Tree(old, full_prod_id(old, folder))
    stages: dict[str, list[dict[str, Any]]] = {}
    for stage in OldStage:
        if stage in old.stages_to_be_run:
            stages.update(_STAGES[stage](tree))
    document: dict[str, Any] = {
        "workflow_kind": old.workflow_kind,
        "prod_id": tree.prod_id,
        "source_environment": old.source_environment.model_dump(),
        "prod_type": old.prod_type,
        "stages_to_run": list(stages),
        "stages": stages,
    }
    if old.slurm_config:
        document["slurm_config"] = old.slurm_config.model_dump()
    return document


def _r0_to_dl1(tree: _Tree) -> dict[str, list[dict[str, Any]]]:
    return {
        "r0_to_dl1": [
            {
                "input": tree.folder("DL0", particle, "", offset),
                "output": tree.folder("DL1", particle, tree.prod_id, offset),
            }
            for particle, offset in tree.sets()
        ]
    }


def _dl1ab(tree: _Tree) -> dict[str, list[dict[str, Any]]]:
    reference = tree.old.dl1_reference_id or ""
    return {
        "dl1ab": [
            {
                "input": f"{tree.folder('DL1', particle, reference, offset)}/{part}",
                "output": f"{tree.folder('DL1', particle, tree.prod_id, offset)}/{part}",
            }
            for particle, offset in tree.sets()
            for part in ("train", "test")
        ]
    }


def _merge(tree: _Tree) -> dict[str, list[dict[str, Any]]]:
    split: list[dict[str, Any]] = []
    merge: list[dict[str, Any]] = []
    no_image = tree.old.merging_options is not None and tree.old.merging_options.no_image
    options = {"options": "--no-image"} if no_image else {}
    for particle, offset in tree.sets():
        folder = tree.folder("DL1", particle, tree.prod_id, offset)
        split.append({"input": folder, "output": {"train": f"{folder}/train", "test": f"{folder}/test"}})
        training = particle in (OldParticle.GAMMA_DIFFUSE.value, OldParticle.PROTON.value)
        merge.extend(
            {"input": f"{folder}/{part}", "output": tree.merged(particle, offset, part), **options}
            for part in (("train", "test") if training else ("test",))
        )
    stages = {"merge_dl1": merge}
    return stages if OldStage.DL1AB in tree.old.stages_to_be_run else {"train_test_split": split, **stages}


def _train(tree: _Tree) -> dict[str, list[dict[str, Any]]]:
    files = {"gamma": tree.merged("gamma-diffuse", None, "train"), "proton": tree.merged("proton", None, "train")}
    return {"train_pipe": [{"input": files, "output": tree.models}]}


def _dl2(tree: _Tree) -> dict[str, list[dict[str, Any]]]:
    return {
        "dl1_to_dl2": [
            {
                "input": tree.merged(particle, offset, "test"),
                "path_model": tree.models,
                "output": tree.folder("DL2", particle, tree.prod_id, offset),
            }
            for particle, offset in tree.sets()
        ]
    }


def _dl2_inputs(tree: _Tree, offset: str | None) -> dict[str, Any]:
    gamma = "gamma" if offset else "gamma-diffuse"
    return {
        "gamma_file": tree.dl2(gamma, offset),
        "proton_file": tree.dl2("proton", None),
        "electron_file": tree.dl2("electron", None),
    }


def _irfs(tree: _Tree) -> dict[str, list[dict[str, Any]]]:
    wanted = tree.old.irf_config
    offsets: list[str | None] = [*tree.old.offset_gammas]
    if wanted:
        offsets = [offset for offset in offsets if offset == f"off{wanted.gamma_offset}"]
    point_like = wanted is None or wanted.point_like
    return {
        "dl2_to_irfs": [
            {
                "input": _dl2_inputs(tree, offset),
                "output": f"{tree.folder('IRF', '', tree.prod_id, offset)}/irf_{tree.prod_id}_{offset}.fits.gz",
                **({"options": "--point-like"} if point_like else {}),
            }
            for offset in offsets
        ]
    }


def _sensitivity(tree: _Tree) -> dict[str, list[dict[str, Any]]]:
    return {
        "dl2_to_sensitivity": [
            {
                "input": _dl2_inputs(tree, offset),
                "output": f"{tree.folder('IRF', '', tree.prod_id, offset)}/sensitivity_{tree.prod_id}_{offset}.fits.gz",
            }
            for offset in tree.old.offset_gammas
        ]
    }


_STAGES = {
    OldStage.R0_TO_DL1: _r0_to_dl1,
    OldStage.DL1AB: _dl1ab,
    OldStage.MERGE: _merge,
    OldStage.TRAIN: _train,
    OldStage.DL2: _dl2,
    OldStage.IRFS: _irfs,
    OldStage.SENSITIVITY: _sensitivity,
}
