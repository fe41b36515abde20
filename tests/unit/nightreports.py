"""Night reports with known content, for the tests of pages, tables and messages."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from html.parser import HTMLParser

from lstops.report.model import FailedCut, NightReport, ProductState, ReportBundle, ReportRun
from lstops.report.source import FluxPoint, LogParabola, RunCheck, SourceCheck, Theta2

EVIL = "Mrk <script>alert(\"x\")</script> & $'421' [red]"
START = datetime(2024, 1, 15, 21, 0, tzinfo=timezone.utc)


def failed(cut: str) -> FailedCut:
    return FailedCut(cut, "q", 1.0, 2.0, "p.e.", f"{cut} failed: q is 1 p.e., must be above 2 p.e.")


def run(number: int, *cuts: str, selected: bool | None = None, **changes: object) -> ReportRun:
    good = not cuts if selected is None else selected
    fields: dict[str, object] = {
        "source": "Crab",
        "start": START + timedelta(minutes=20 * (number % 50)),
        "elapsed_s": 1200.0,
        "zenith_deg": 20.0,
        "quantities": {"mean_r422": 1.7, "mean_diffuse_nsb_std_pe": 1.8},
        "selected": good,
        "failed": tuple(map(failed, cuts)),
        "dl3": ProductState.PUBLISHED if good else ProductState.NONE,
    }
    return ReportRun(number, **(fields | changes))  # type: ignore[arg-type]


def check(**changes: object) -> SourceCheck:
    fields: dict[str, object] = {
        "source_name": EVIL,
        "ra_deg": 83.6,
        "dec_deg": 22.0,
        "gammapy_version": "1.3",
        "energy_range_tev": (0.05, 20.0),
        "live_time_s": 1200.0,
        "counts_on": 300,
        "counts_off": 60,
        "excess": 280.0,
        "background": 20.0,
        "significance": 25.3,
        "spectrum": LogParabola(amplitude=3e-11, alpha=2.5, beta=0.1, amplitude_error=1e-12, alpha_error=0.1),
        "free": ("amplitude", "alpha"),
        "flux": 4.7e-10,
        "flux_error": 2e-11,
        "reference": LogParabola(amplitude=3.23e-11, alpha=2.47, beta=0.104),
        "reference_name": "Crab Nebula",
        "reference_flux": 4.76e-10,
        "ratio": 0.99,
        "ratio_error": 0.04,
        "runs": (
            RunCheck(run_id=1, live_time_s=1200, offset_deg=0.4, n_off_regions=3, counts_on=300, counts_off=60,
                     alpha=1 / 3, excess=280, significance=25.3),
        ),
        "points": (
            FluxPoint(energy_tev=1, energy_min_tev=0.8, energy_max_tev=1.3, dnde=3e-11, dnde_error=1e-12,
                      dnde_upper_limit=None, significance=9),
            FluxPoint(energy_tev=9, energy_min_tev=8, energy_max_tev=13, dnde=None, dnde_error=None,
                      dnde_upper_limit=1e-13, significance=0.4),
        ),
        "theta2": Theta2(edges_deg2=(0, 0.04, 0.08), on=(280, 60), off=(20, 21), off_error=(3, 3)),
    }  # fmt: skip
    return SourceCheck(**(fields | changes))  # type: ignore[arg-type]


def report(*runs: ReportRun, **changes: object) -> NightReport:
    fields: dict[str, object] = {
        "night": "20240115",
        "site": "local",
        "profile": "standard",
        "runs": runs,
        "generated_at": datetime(2024, 1, 16, 9, 30, tzinfo=timezone.utc),
    }
    return NightReport(**(fields | changes))  # type: ignore[arg-type]


def bundle(*runs: int, source: str = "Crab") -> ReportBundle:
    return ReportBundle(
        source, "v0002", "DL3/20240115/x/v0002", "2024-01-16T09:41:07+00:00", runs, 1_234_567, "ab" * 32
    )


class Page(HTMLParser):
    """Collects what a browser would load and the visible text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [v or "" for k, v in attrs if k in ("src", "href", "data", "action")]

    def handle_data(self, data: str) -> None:
        self.words.append(data)
