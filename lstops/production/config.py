"""The lstmcpipe configuration: what to run on which paths, as frozen models, and back to YAML.

Facts about the format come from lstmcpipe (`config/pipeline_config.py`). Unknown keys are errors.
"""

from __future__ import annotations

import hashlib
import re
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError

from lstops.errors import ConfigError
from lstops.production.documents import InvalidProductionError, problems_of, read_yaml, write_atomically, yaml_text
from lstops.production.lstchain_config import LstchainConfig
from lstops.production.lstchain_document import read_lstchain_config
from lstops.production.naming import is_name
from lstops.production.old_dialect import OldProduction, convert, is_old_dialect, read_old
from lstops.production.stages import Path_, StageName, Stages
from lstops.step.model import Frozen


def _as_text(value: Any) -> Any:
    # an identifier or version made of digits only is a number for YAML; lstmcpipe uses it as text all the same
    return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


def _as_name(value: str) -> str:
    if not is_name(value):
        raise ValueError("cannot name a production (one folder: letters, digits, _ . and -)")
    return value


Text = Annotated[str, BeforeValidator(_as_text), Field(min_length=1)]
Name = Annotated[Text, AfterValidator(_as_name)]


class WorkflowKind(str, Enum):
    """Pipelines that lstmcpipe knows."""

    LSTCHAIN = "lstchain"
    CTAPIPE = "ctapipe"
    HIPERTA = "hiperta"


class SourceEnvironment(Frozen):
    """The conda environment in which the jobs run."""

    source_file: Path_
    conda_env: Text

    @property
    def lstchain_version(self) -> str | None:
        """Version that the environment's name claims: "0.10.12" of lstchain-v0.10.12."""
        found = re.search(r"lstchain[-_]?v?(\d+\.\d+(?:\.\d+)*)", self.conda_env)
        return found.group(1) if found else None


class SlurmConfig(Frozen):
    """SLURM settings of all jobs."""

    user_account: str = ""


class LstmcpipeConfig(Frozen):
    """One lstmcpipe YAML of the present dialect."""

    workflow_kind: WorkflowKind
    prod_id: Name
    source_environment: SourceEnvironment
    slurm_config: SlurmConfig | None = None
    lstmcpipe_version: Text | None = None
    prod_type: Text | None = None
    dl1_noise_tune_data_run: Path_ | None = None
    dl1_noise_tune_mc_run: Path_ | None = None
    stages_to_run: Annotated[tuple[StageName, ...], Field(min_length=1)]
    stages: Stages

    def runs(self, stage: StageName) -> bool:
        """Whether lstmcpipe would submit this stage."""
        return stage in self.stages_to_run

    def to_document(self) -> dict[str, Any]:
        """The mapping to write: exactly the keys that were given."""
        return self.model_dump(mode="json", exclude_unset=True, by_alias=True)


class ProductionConfig(Frozen):
    """One production: the lstmcpipe YAML and the lstchain JSON.

    Attributes
    ----------
    pipe : LstmcpipeConfig
        Of the present dialect; converted where the file is of the old one.
    chain : LstchainConfig or None
        None if no JSON was given or found.
    path, chain_path : Path or None
        Where they were read.
    old : OldProduction or None
        The file as written, if it is of the old dialect.
    """

    pipe: LstmcpipeConfig
    chain: LstchainConfig | None = None
    path: Path | None = None
    chain_path: Path | None = None
    old: OldProduction | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of the content of both documents."""
        chain = self.chain.canonical if self.chain else ""
        pipe = self.pipe.model_dump_json(exclude_unset=True, by_alias=True)
        return hashlib.sha256((pipe + chain).encode()).hexdigest()


def validate_pipe(document: dict[str, Any], where: Path | str) -> LstmcpipeConfig:
    """Check a mapping of the present dialect.

    Raises
    ------
    InvalidProductionError
        Naming each wrong key with the nearest right one, each missing key and each wrong value.
    """
    try:
        return LstmcpipeConfig.model_validate(document)
    except ValidationError as error:
        raise InvalidProductionError(where, problems_of(error, LstmcpipeConfig)) from error


def find_lstchain_config(path: Path) -> Path | None:
    """The lstchain JSON beside an lstmcpipe YAML: the only `*lstchain*.json` there, else None."""
    found = sorted(path.parent.glob("*lstchain*.json"))
    return found[0] if len(found) == 1 else None


def read_pipe(path: Path) -> tuple[LstmcpipeConfig, OldProduction | None]:
    """Read an lstmcpipe YAML of either dialect; one of the old dialect comes converted, and as it was written.

    Raises
    ------
    ConfigError
        If it cannot be read or is not what it should be.
    """
    document = read_yaml(path)
    if not is_old_dialect(document):
        return validate_pipe(document, path), None
    old = read_old(document, path)
    return validate_pipe(convert(old, folder=path.resolve().parent.name), path), old


def read_config(path: Path, chain_path: Path | None = None) -> ProductionConfig:
    """Read a production's configuration, of either dialect.

    Parameters
    ----------
    path : Path
        The lstmcpipe YAML.
    chain_path : Path, optional
        The lstchain JSON; default: the only one beside the YAML, if any.

    Raises
    ------
    ConfigError
        If a file cannot be read or is not what it should be.
    """
    pipe, old = read_pipe(path)
    chain_path = chain_path or find_lstchain_config(path)
    chain = read_lstchain_config(chain_path) if chain_path else None
    return ProductionConfig(pipe=pipe, chain=chain, path=path, chain_path=chain_path, old=old)


def write_config(config: ProductionConfig, path: Path, chain_path: Path | None = None, overwrite: bool = False) -> None:
    """Write a production so that lstmcpipe would run it (always in the present dialect).

    Parameters
    ----------
    path : Path
        For the YAML.
    chain_path : Path, optional
        For the JSON, which `lstmcpipe -c YAML -conf_lst JSON` needs too.

    Raises
    ------
    ConfigError
        If a file exists already or cannot be written.
    """
    for target in (path, chain_path):
        # both or neither: look at the second target before the first is written
        if target and target.exists() and not overwrite:
            raise ConfigError(f"{target} exists already.", "choose another name; published files stay.")
    chain_name = chain_path.name if chain_path else "CONFIG.json"
    comment = f"{config.pipe.prod_id}\nlstmcpipe -c {path.name} -conf_lst {chain_name}"
    write_atomically(path, yaml_text(config.pipe.to_document(), comment), overwrite)
    if chain_path and config.chain:
        write_atomically(chain_path, config.chain.to_text(), overwrite)
