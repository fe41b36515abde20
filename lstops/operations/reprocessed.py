"""What a reprocessing made of a night, as a file in its own area: written on the way, read by the comparison."""

from __future__ import annotations

from pydantic import ValidationError

from lstops.errors import DataError
from lstops.night import Night
from lstops.site.layout import Layout
from lstops.step.manifest import write_atomically
from lstops.step.model import Frozen


class ReprocessedNight(Frozen):
    """A night of a reprocessing.

    Attributes
    ----------
    before : tuple of str
        Versions that readers got when the reprocessing first began with the night, relative to the site's base.
    reduction, collection : str
        Ids of its plans; empty before they are made.
    after : tuple of str
        Versions that it published.
    published : bool
        Whether it has come to its end since it was started last.
    """

    night: str
    before: tuple[str, ...] = ()
    reduction: str = ""
    collection: str = ""
    after: tuple[str, ...] = ()
    published: bool = False


def read_night(layout: Layout, name: str, night: Night) -> ReprocessedNight | None:
    """What is known of a night; None: the reprocessing has not begun with it.

    Raises
    ------
    DataError
        If the file is damaged.
    """
    path = layout.absolute(layout.reprocessed_night(name, night))
    try:
        return ReprocessedNight.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise DataError(
            f"{path} is damaged: {error.error_count()} field(s) are wrong.",
            "remove it and start `reprocessing` again: what is current then counts as the old version.",
        ) from error


def write_night(layout: Layout, name: str, record: ReprocessedNight) -> None:
    """Replace what is known of a night."""
    path = layout.absolute(layout.reprocessed_night(name, Night.parse(record.night)))
    write_atomically(path, record.model_dump_json(indent=1) + "\n")
