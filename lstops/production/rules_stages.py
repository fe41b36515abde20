"""Lint rules on dialect, stages, keys and nodes."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Iterator
from pathlib import PurePosixPath

from lstops.production.definition import DEFAULT_TEST_RATIO, StepDefinition
from lstops.production.findings import Finding, LintContext, Rule, Severity, counted
from lstops.production.grid import Line, Node, Particle
from lstops.production.stages import IrfStep, MergeStep, SplitStep, StageName, StepConfig


def old_dialect(context: LintContext) -> Iterator[Finding]:
    """The file is of the dialect that the present lstmcpipe refuses."""
    if context.config.old:
        yield Finding(
            code="old-dialect",
            severity=Severity.ERROR,
            place="file",
            message="particles, zenith and pointing instead of paths, and stages_to_be_run: "
            "lstmcpipe has refused this since 2022",
            remedy="convert it: `lstops production convert OLD.yml NEW.yml`, then compare the paths with the tree.",
        )


def stages_to_run(context: LintContext) -> Iterator[Finding]:
    """stages_to_run and stages agree."""
    pipe = context.config.pipe
    for stage in pipe.stages_to_run:
        if not pipe.stages.of(stage):
            yield Finding(
                code="stage-not-defined",
                severity=Severity.ERROR,
                place=f"stages_to_run.{stage.value}",
                message=f"{stage.value} is to be run but has no steps in stages",
                remedy=f"define stages.{stage.value}, or take it out of stages_to_run.",
            )
    for stage in pipe.stages.defined:
        if not pipe.runs(stage):
            steps = len(pipe.stages.of(stage))
            yield Finding(
                code="stage-not-run",
                severity=Severity.WARNING,
                place=f"stages.{stage.value}",
                message=f"{counted(steps, 'step')} of {stage.value} defined but not run",
                remedy=f"add {stage.value} to stages_to_run, or remove its steps.",
                count=steps,
            )
    if pipe.runs(StageName.R0_TO_DL1) and pipe.runs(StageName.DL1AB):
        yield Finding(
            code="r0-and-dl1ab",
            severity=Severity.ERROR,
            place="stages_to_run",
            message="r0_to_dl1 and dl1ab are both to be run; lstmcpipe refuses that",
            remedy="make two productions: dl1ab starts from a finished one.",
        )
    pair = {
        "dl1_noise_tune_data_run": pipe.dl1_noise_tune_data_run,
        "dl1_noise_tune_mc_run": pipe.dl1_noise_tune_mc_run,
    }
    missing = [key for key, value in pair.items() if not value]
    if len(missing) == 1:
        yield Finding(
            code="noise-tune-pair",
            severity=Severity.ERROR,
            place=missing[0],
            message=f"{missing[0]} is missing while the other file of the noise tuning is given",
            remedy=f"give {missing[0]}, or remove the other one.",
        )


def _slurm_remedy(text: str) -> str:
    """The same options under the key that is read: "-p long --mem=80GB" -> partition: long, mem: 80GB."""
    try:
        options, words = [], shlex.split(text)
    except ValueError:
        return "the same options"  # which nobody can read
    while words:
        word = words.pop(0)
        if word == "-p" and words:
            options.append(f"partition: {words.pop(0)}")
        elif word.startswith("--") and "=" in word:
            key, value = word[2:].split("=", 1)
            options.append(f"{key}: {value}")
        else:
            return "the same options"
    return "{" + ", ".join(options) + "}"


def _dead_options(step: StepConfig) -> str | None:
    """`options` of a stage that passes none on, as text."""
    if isinstance(step, (MergeStep, IrfStep)) or step.options is None:
        return None
    return str(step.options)


def dead_keys(context: LintContext) -> Iterator[Finding]:
    """Keys that lstmcpipe never reads: slurm_options everywhere, options where the stage passes none on."""
    for stage in context.config.pipe.stages.defined:
        steps = context.config.pipe.stages.of(stage)
        slurm = [(index, step.slurm_options) for index, step in enumerate(steps) if step.slurm_options is not None]
        if slurm:
            values = tuple(dict.fromkeys(text for _, text in slurm))
            yield Finding(
                code="dead-key",
                severity=Severity.WARNING,
                place=f"stages.{stage.value}[{slurm[0][0]}].slurm_options",
                message=f"slurm_options on {counted(len(slurm), 'step')} of {stage.value} ask for what no job gets; "
                "only extra_slurm_options is read",
                remedy=f"write extra_slurm_options: {_slurm_remedy(values[0])}",
                count=len(slurm),
                items=values,
            )
        dead = [(index, text) for index, step in enumerate(steps) if (text := _dead_options(step)) is not None]
        if dead:
            values = tuple(dict.fromkeys(text for _, text in dead))
            yield Finding(
                code="dead-key",
                severity=_dead_options_severity(steps),
                place=f"stages.{stage.value}[{dead[0][0]}].options",
                message=f"options on {counted(len(dead), 'step')} of {stage.value} reach no command: "
                + ", ".join(values[:3]),
                remedy="write the share of the test part as output: {train: ..., test: ..., ratio: 0.5}."
                if stage is StageName.TRAIN_TEST_SPLIT
                else f"remove them; {stage.value} is steered by the lstchain configuration.",
                count=len(dead),
                items=values,
            )


def _dead_options_severity(steps: tuple[StepConfig, ...]) -> Severity:
    """A test_size that is not the share really used is an error: the split is not the one that was asked for."""
    for step in steps:
        if isinstance(step, SplitStep) and isinstance(step.options, dict):
            used = step.output.ratio or DEFAULT_TEST_RATIO
            if step.options.get("test_size", used) != used:
                return Severity.ERROR
    return Severity.WARNING


def _node_list(nodes: tuple[Node, ...]) -> str:
    names = ", ".join(str(node) for node in nodes[:4])
    return f"{names} and {len(nodes) - 4} more" if len(nodes) > 4 else names


def missing_nodes(context: LintContext) -> Iterator[Finding]:
    """Training nodes of each line against the known grid, by zenith distance and azimuth."""
    stage = context.dl1_stage
    if stage is None:
        return
    definition = context.production.stage(stage)
    assert definition is not None
    by_line: dict[str, dict[Particle, list[StepDefinition]]] = defaultdict(lambda: defaultdict(list))
    for step in definition.steps:
        if step.is_training and step.line and step.particle and step.node:
            by_line[step.line][step.particle].append(step)
    for line in _lines_used(context):
        by_line[line]  # a line that is trained on without any node: all of them are missing
    for name, particles in by_line.items():
        if name not in context.grid.lines:
            yield Finding(
                code="unknown-line",
                severity=Severity.WARNING,
                place=f"stages.{stage.value}",
                message=f"grid {context.grid.name} has no declination line {name}: its nodes cannot be checked",
                remedy="correct the name, or add the line to the grid file.",
            )
            continue
        yield from _line_findings(context, stage, context.grid.line(name), particles)


def _lines_used(context: LintContext) -> Iterator[str]:
    """Lines whose training data this production has to make, since they are read out of its own folders."""
    made = {path for step in context.production.steps() for path in step.products}
    for stage in (StageName.MERGE_DL1, StageName.TRAIN_PIPE):
        definition = context.production.stage(stage)
        for step in definition.steps if definition else ():
            # of a merged file the merge says where it comes from
            read = (PurePosixPath(given.path).parts for given in step.inputs if given.path not in made)
            own = any(context.production.prod_id in parts for parts in read)
            if own and step.line and (step.is_training or stage is StageName.TRAIN_PIPE):
                yield step.line


def _line_findings(
    context: LintContext, stage: StageName, line: Line, particles: dict[Particle, list[StepDefinition]]
) -> Iterator[Finding]:
    by_missing: dict[tuple[Node, ...], list[str]] = defaultdict(list)
    unknown: dict[str, Node] = {}
    for particle in (Particle.GAMMA_DIFFUSE, Particle.PROTONS):
        nodes = [step.node for step in particles.get(particle, []) if step.node]
        comparison = context.grid.compare(line.nodes, nodes)
        by_missing[comparison.missing].append(particle.value)
        unknown.update((line.node_name(node, particle), node) for node in comparison.unknown)
    first = next((step for steps in particles.values() for step in steps), None)
    for missing, names in by_missing.items():
        if missing:
            yield _missing_finding(context, stage, line, missing, names, first)
    if unknown:
        yield Finding(
            code="unknown-node",
            severity=Severity.WARNING,
            place=f"stages.{stage.value}",
            message=f"{line.name} has nodes that grid {context.grid.name} does not know: "
            f"{_node_list(tuple(unknown.values()))}",
            remedy="check the names; if the nodes are new, add them to the grid file.",
            count=len(unknown),
            items=tuple(unknown),
        )


def _missing_finding(
    context: LintContext,
    stage: StageName,
    line: Line,
    missing: tuple[Node, ...],
    particles: list[str],
    first: StepDefinition | None,
) -> Finding:
    why = ""
    if set(missing) <= set(line.culmination_nodes):
        # lstmcpipe config/paths_config.py, check_source_prod: remove_rows(pidx) instead of the rows marked for removal
        cause = "; lstmcpipe's generator drops it by mistake" if stage is StageName.DL1AB else ""
        why = f" (at culmination, zenith distance {missing[0].zd_deg:g} deg{cause})"
    elif any(node in line.culmination_nodes for node in missing):
        why = " (the culmination among them)"
    there, total = len(line.nodes) - len(missing), len(line.nodes)
    lost = [Particle.PROTONS if name == Particle.PROTONS.value else Particle.GAMMA_DIFFUSE for name in particles]
    like = f"like {first.place}" if first else f"to {stage.value}"
    return Finding(
        code="missing-node",
        severity=Severity.ERROR if context.config.pipe.runs(stage) else Severity.WARNING,
        place=f"stages.{stage.value} ({line.name})",
        message=f"{line.name} {' and '.join(particles)}: {there} of {total} training nodes, "
        f"without {_node_list(missing)}{why}",
        remedy=f"add a step for each missing node, {like}: {line.node_name(missing[0], lost[0])}.",
        count=len(missing),
        items=tuple(line.node_name(node, particle) for particle in lost for node in missing),
    )


def missing_test_nodes(context: LintContext) -> Iterator[Finding]:
    """Test nodes against the known ones; leaving some out is a choice, so this only informs."""
    for stage in (context.dl1_stage, StageName.DL1_TO_DL2):
        definition = context.production.stage(stage) if stage else None
        if definition is None:
            continue
        nodes = [s.node for s in definition.steps if s.node and not s.is_training and s.particle is Particle.GAMMA]
        if not nodes:
            continue
        comparison = context.grid.compare(context.grid.test_nodes, nodes)
        if comparison.missing and comparison.present:
            total = len(context.grid.test_nodes)
            yield Finding(
                code="missing-node",
                severity=Severity.INFO,
                place=f"{definition.steps[0].place.split('[')[0]} (test nodes)",
                message=f"{len(comparison.present)} of the {total} known test nodes, "
                f"without {_node_list(comparison.missing)}",
                remedy="nothing, if the observations need no more; else add steps for the missing nodes.",
                count=len(comparison.missing),
                items=tuple(node.name(context.grid.test_prefix) for node in comparison.missing),
            )
        return


RULES: tuple[Rule, ...] = (old_dialect, stages_to_run, dead_keys, missing_nodes, missing_test_nodes)
