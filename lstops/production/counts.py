"""How many steps a production has, stage by stage, and how many jobs lstmcpipe would submit for it."""

from __future__ import annotations

from rich.table import Table

from lstops.production.config import LstmcpipeConfig
from lstops.production.stages import StageName
from lstops.step.model import Frozen

#: Jobs that lstmcpipe submits beside the one of the step: the plot of the feature importances after train_pipe
#: (stages/mc_train.py), the plot of each sensitivity curve (stages/mc_dl2_to_sensitivity.py).
_EXTRA_JOBS_PER_STEP = {StageName.TRAIN_PIPE: 1, StageName.DL2_TO_SENSITIVITY: 1}
#: The last job, which collects sacct's table (utils.py).
_CHECK_JOBS = 1


class StageCount(Frozen):
    """Counts of one stage.

    Attributes
    ----------
    defined : int
        Steps in `stages`.
    run : int
        Steps that lstmcpipe would run: those defined, if the stage is in `stages_to_run`.
    requested : bool
        Whether the stage is in `stages_to_run`.
    submissions : int
        Jobs of the steps; one a step (r0_to_dl1 and dl1ab: one job array a step).
    extra_submissions : int
        Plots that come with them.
    """

    stage: StageName
    requested: bool
    defined: int
    run: int
    submissions: int
    extra_submissions: int


class ProductionCounts(Frozen):
    """Counts of a production.

    Attributes
    ----------
    defined, run, submissions : int
        Sums over the stages.
    extra_submissions : int
        Plots, and the one job that checks the production at the end.
    """

    prod_id: str
    stages: tuple[StageCount, ...]
    defined: int
    run: int
    submissions: int
    extra_submissions: int

    def of(self, stage: StageName) -> StageCount | None:
        """Counts of a stage; None if it is neither defined nor to be run."""
        return next((count for count in self.stages if count.stage is stage), None)


def count_stages(config: LstmcpipeConfig) -> ProductionCounts:
    """Count steps and submissions, stage by stage."""
    counts = []
    for stage in StageName:
        defined, requested = len(config.stages.of(stage)), config.runs(stage)
        if defined or requested:
            run = defined if requested else 0
            extra = run * _EXTRA_JOBS_PER_STEP.get(stage, 0)
            counts.append(
                StageCount(
                    stage=stage,
                    requested=requested,
                    defined=defined,
                    run=run,
                    submissions=run,
                    extra_submissions=extra,
                )
            )
    submissions = sum(count.submissions for count in counts)
    return ProductionCounts(
        prod_id=config.prod_id,
        stages=tuple(counts),
        defined=sum(count.defined for count in counts),
        run=sum(count.run for count in counts),
        submissions=submissions,
        extra_submissions=sum(count.extra_submissions for count in counts) + (_CHECK_JOBS if submissions else 0),
    )


def counts_table(counts: ProductionCounts) -> Table:
    """The counts for a terminal."""
    table = Table(title=counts.prod_id)
    table.add_column("stage")
    for column in ("defined", "run", "submissions", "plots"):
        table.add_column(column, justify="right")
    for count in counts.stages:
        name = count.stage.value if count.requested else f"{count.stage.value} (not run)"
        table.add_row(name, *map(str, (count.defined, count.run, count.submissions, count.extra_submissions)))
    table.add_section()
    plots = counts.extra_submissions - (_CHECK_JOBS if counts.submissions else 0)
    table.add_row("sum", *map(str, (counts.defined, counts.run, counts.submissions, plots)))
    return table
