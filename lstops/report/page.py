"""What the pages have in common: the template engine, and numbers and words as people read them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

_TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, **values: Any) -> str:
    """One HTML page that needs nothing else (no network, no script); all text from outside is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template(template).render(**values)


def number(value: float | None, digits: int) -> str:
    """A number with so many digits; a dash if it is unknown."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def duration(seconds: float) -> str:
    """A time span in the unit that suits it."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.2f} h"


def size_text(size: int) -> str:
    """Bytes in the unit that suits them."""
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def plural(n: int, noun: str) -> str:
    """So many things."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def without_stop(text: str) -> str:
    """A sentence that goes on: without its full stop, but with that of "p.e."."""
    return text if text.endswith("p.e.") else text.removesuffix(".")
