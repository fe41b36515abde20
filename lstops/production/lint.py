"""The lint of a production: reads both documents, applies every rule, reports what cannot be read as findings too.

The rules are pure functions in `rules_*`; `findings` has what they share.
"""

from __future__ import annotations

from pathlib import Path

from lstops.errors import ConfigError
from lstops.production import rules_chain, rules_names, rules_options, rules_paths, rules_stages
from lstops.production.config import ProductionConfig, find_lstchain_config, read_pipe
from lstops.production.definition import ProductionDefinition, read_production
from lstops.production.documents import InvalidProductionError, Problem
from lstops.production.findings import Finding, LintContext, Rule, Severity, Tree
from lstops.production.grid import Grid, known_grid
from lstops.production.lstchain_config import LstchainConfig
from lstops.production.lstchain_document import read_lstchain_config
from lstops.step.model import Frozen


class LintReport(Frozen):
    """All findings on one production, errors first."""

    path: str
    lstchain_config: str | None
    prod_id: str | None
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether there is no error."""
        return all(finding.severity is not Severity.ERROR for finding in self.findings)

    @property
    def codes(self) -> tuple[str, ...]:
        """Codes found, sorted, each once."""
        return tuple(sorted({finding.code for finding in self.findings}))


_ORDER = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.INFO: 2}


def all_rules() -> tuple[Rule, ...]:
    """Every rule, in the order in which people read a configuration."""
    rules = (rules_stages, rules_options, rules_names, rules_paths, rules_chain)
    return tuple(rule for module in rules for rule in module.RULES)


def lint(context: LintContext) -> tuple[Finding, ...]:
    """Apply every rule; errors come first."""
    findings = [finding for rule in all_rules() for finding in rule(context)]
    return tuple(sorted(findings, key=lambda finding: _ORDER[finding.severity]))


def lint_read(
    config: ProductionConfig,
    definition: ProductionDefinition,
    path: Path,
    grid: Grid | None = None,
    tree: Tree | None = None,
) -> tuple[Finding, ...]:
    """Lint a configuration that was read from `path`, among the other levels of its grid; errors come first."""
    return lint(LintContext(config, definition, grid or known_grid(), *find_siblings(path), tree))


def from_problem(problem: Problem) -> Finding:
    """What makes a document unreadable, as a finding."""
    return Finding(
        code=problem.code,
        severity=Severity.ERROR,
        place=problem.place,
        message=problem.message,
        remedy=problem.remedy,
    )


def find_siblings(path: Path) -> tuple[dict[str, LstchainConfig], tuple[str, ...]]:
    """lstchain configurations of the other levels, for a YAML in a folder `NSB-...` of a grid.

    Returns
    -------
    siblings : dict
        By the name of the level's folder.
    unreadable : tuple of str
        Folders of levels whose configuration cannot be read.
    """
    folder = path.resolve().parent
    found: dict[str, LstchainConfig] = {}
    unreadable: list[str] = []
    others = sorted(folder.parent.glob("NSB*")) if folder.name.upper().startswith("NSB") else []
    for other in others:
        for file in sorted(other.glob("*lstchain*.json"))[:1] if other != folder else ():
            try:
                found[other.name] = read_lstchain_config(file)
            except ConfigError:
                unreadable.append(other.name)
    return found, tuple(unreadable)


def lint_file(
    path: Path, chain_path: Path | None = None, grid: Grid | None = None, tree: Tree | None = None
) -> LintReport:
    """Read and lint one production; what cannot be read is a finding too.

    Parameters
    ----------
    path : Path
        The lstmcpipe YAML.
    chain_path : Path, optional
        The lstchain JSON; default: the only one beside the YAML.
    tree : Tree, optional
        Where the files are, to look for missing inputs and existing outputs.

    Raises
    ------
    ConfigError
        If the YAML cannot be opened at all, or the tree is no folder.
    """
    if tree and not tree.root.is_dir():
        raise ConfigError(f"the tree {tree.root} is no folder.", "give the folder that stands for '/'.")
    findings: list[Finding] = []
    chain_path = chain_path or find_lstchain_config(path)
    chain: LstchainConfig | None = None
    if chain_path:
        try:
            chain = read_lstchain_config(chain_path)
        except InvalidProductionError as error:
            findings += [
                from_problem(p).model_copy(update={"place": f"{chain_path.name}: {p.place}"}) for p in error.problems
            ]
    prod_id = None
    try:
        pipe, old = read_pipe(path)
    except InvalidProductionError as error:
        findings += [from_problem(problem) for problem in error.problems]
    else:
        prod_id = pipe.prod_id
        config = ProductionConfig(pipe=pipe, chain=chain, path=path, chain_path=chain_path, old=old)
        try:
            definition = read_production(config)
        except ConfigError:
            if not (nodes := rules_paths.impossible_nodes(pipe)):
                raise
            findings += nodes
        else:
            findings += lint_read(config, definition, path, grid, tree)
    findings.sort(key=lambda finding: _ORDER[finding.severity])
    return LintReport(
        path=str(path),
        lstchain_config=str(chain_path) if chain_path else None,
        prod_id=prod_id,
        findings=tuple(findings),
    )
