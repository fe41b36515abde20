"""Plan of a production whose NSB is measured with data and simulated in the waveforms, from the raw events on.

It is the plan of a level, but that its first step measures the NSB instead of writing down a given one.
"""

from __future__ import annotations

from collections.abc import Sequence

from lstops.production.grid import Grid
from lstops.production.level import LevelRequest, chain_changes, lstmcpipe_config, plan_level
from lstops.production.mc_files import Lister
from lstops.production.tuned_paths import TunedPaths
from lstops.production.tuning import TuneRequest, tune_step
from lstops.science.tune_nsb import TuningLevel
from lstops.site.layout import Layout
from lstops.site.model import Site
from lstops.step.model import Plan, Stage


def plan_waveform_tuning(request: LevelRequest, subruns: Sequence[str], site: Site, grid: Grid, lister: Lister) -> Plan:
    """Plan everything from the measurement to the responses.

    Parameters
    ----------
    request : LevelRequest
        Its level names the production and says the cleaning; what is simulated is what the subruns give.
    subruns : sequence of str
        Typical subruns of the data: DL1 with images and interleaved pedestals, relative to the site's base.

    Raises
    ------
    ConfigError
        As `plan_level`, and if there is nothing to tune with.
    """
    plan = plan_level(request, site, grid, lister)
    paths = TunedPaths(Layout(site.base, site.work), request.production, request.lines[0].name)
    level = TuningLevel.WAVEFORM
    tune = tune_step(
        TuneRequest(
            production=request.production,
            lstchain_version=request.lstchain_version,
            level=level,
            subruns=tuple(subruns),
            update={name: change for name, change in chain_changes(request, site).items() if name != level.block},
            config=paths.config,
            record=paths.tuning,
        ),
        site,
    )
    context = {**plan.context, "nsb_level_ghz": request.level_ghz, "subruns": list(subruns)}
    stages = (Stage(name="tune", steps=(tune,)), *(stage for stage in plan.stages if stage.name != "config"))
    return plan.model_copy(update={"stages": stages, "context": context})


def missing_raw(request: LevelRequest, site: Site, grid: Grid, lister: Lister) -> tuple[str, ...]:
    """Folders of simulated raw events that the production needs and that have none, relative to the base."""
    steps = lstmcpipe_config(request, site, grid).stages.r0_to_dl1 or ()
    folders = [step.input.removeprefix(f"{site.base}/") for step in steps]
    return tuple(f for f in folders if not any(lister(f, f"*.simtel.{ending}") for ending in ("gz", "zst")))
