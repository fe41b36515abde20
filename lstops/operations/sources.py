"""What a plan reads and nothing of it makes: it is there before the plan is stored, not asked for hours later."""

from __future__ import annotations

from lstops.errors import DataError
from lstops.operations.nightly import layout_of
from lstops.site.model import Site
from lstops.step.model import ArtifactKind, Plan
from lstops.step.verify import inspect

#: which files of the other kinds there are is found by listing folders, so that those are there
_NAMED = (ArtifactKind.MODELS, ArtifactKind.DL1_MERGED, ArtifactKind.DL2, ArtifactKind.LSTCHAIN_CONFIG)


def require_sources(site: Site, plan: Plan) -> None:
    """Refuse a plan that reads forests, merged DL1, DL2 or a configuration that are not there.

    Forests are looked at as far as that loads none: all of them are in the folder.

    Raises
    ------
    DataError
        Naming the first that is missing.
    """
    layout = layout_of(site)
    made = {output.path for step in plan.steps() for output in step.outputs}
    read = {item.path: item.kind for step in plan.steps() for item in step.inputs if item.kind in _NAMED}
    sources = {path: kind for path, kind in read.items() if path not in made}
    if missing := [path for path in sources if not layout.absolute(path).exists()]:
        kind = sources[missing[0]].value
        raise DataError(
            f"{len(missing)} of {len(sources)} files or folders that {plan.title} reads, and does not make, are not "
            f"there; the first is {missing[0]} ({kind}).",
            "make them first, or let the configuration run the stage that does; or correct their paths.",
        )
    for path, kind in sources.items():
        if kind is ArtifactKind.MODELS:
            inspect(kind, layout.absolute(path))
