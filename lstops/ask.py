"""Questions about runs: which are good, how many hours, why, and what became of them.

::

    from lstops.ask import Catalog

    crab = Catalog().runs(target="Crab", since="2019-12-01", until="2020-01-15", zd_max=50)
    print(crab.hours, crab.runs)
    print(crab.to_astropy())
    print(Catalog().why(1739).verdict.reasons)

The catalogue is the PostgreSQL that LSTOPS_DATABASE_URL (or `secrets.env` in LSTOPS_HOME) names. No data check file is
opened. `lstops runs` and `lstops why` print the same answers.
"""

from __future__ import annotations

from collections.abc import Mapping

from lstops.catalog.database import catalog_session
from lstops.catalog.history import load_subruns
from lstops.catalog.runlist import NightHours, RunList, list_night, list_runs, with_good_time, with_typical_subruns
from lstops.catalog.runwhy import RunAnswer, explain_run
from lstops.errors import ConfigError
from lstops.night import Night
from lstops.quality.profiles import Profile, load_profile, validated
from lstops.quality.request import NO_FIRST_DATE, NO_LAST_DATE, SelectionRequest
from lstops.quality.tables import SubrunTable
from lstops.quality.targets import load_targets

__all__ = ["Catalog", "NightHours", "RunAnswer", "RunList"]


class Catalog:
    """The catalogue of runs, to be asked.

    Parameters
    ----------
    url : str, optional
        "postgresql://user@host/database"; from the environment if not given.
    """

    def __init__(self, url: str | None = None) -> None:
        self._url = url

    def runs(
        self,
        target: str | None = None,
        *,
        since: Night | str | None = None,
        until: Night | str | None = None,
        zd_min: float = 0.0,
        zd_max: float = 75.0,
        offset: tuple[float, float] = (0.35, 0.45),
        nsb_max: float | None = None,
        profile: Profile | str = "standard",
        settings: Mapping[str, bool | float | str] | None = None,
        good_time: bool = False,
        typical: bool = True,
    ) -> RunList:
        """Select runs.

        Parameters
        ----------
        target : str, optional
            A name of the target list, or "ra dec" in degrees or in hours and degrees; the whole sky if not given.
        since, until : Night or str, optional
            First and last night, both included: "2019-12-01" or "20191201".
        zd_min, zd_max : float
            Range of the run's mean zenith distance, in degrees.
        offset : tuple of float
            Range of the distance between the run's mean pointing and the target, in degrees.
        nsb_max : float, optional
            Largest spread of the pedestal charge, in p.e.; 2.3 is about moonless.
        profile : Profile or str
            A profile, its name or the path of its file.
        settings : mapping, optional
            Other limits of the profile, by the names of their variables.
        good_time : bool
            Cut bad subruns away instead of losing the run.
        typical : bool
            Also find subruns whose NSB is typical of the selection (`RunList.nsb.typical`).

        Returns
        -------
        RunList

        Raises
        ------
        ConfigError
            For an unknown target, profile or limit, and for ranges that are the wrong way round.
        TransportError
            If the catalogue does not answer.
        """
        chosen = profile if isinstance(profile, Profile) else load_profile(profile)
        first, last = _night(since), _night(until)
        if first and last and first > last:
            raise ConfigError(
                f"The dates are the wrong way round: since {first.iso}, until {last.iso}.", "Exchange them."
            )
        position = load_targets().find(target) if target is not None else None
        request = validated(
            SelectionRequest,
            {
                "source_ra_deg": position and position.ra_deg,
                "source_dec_deg": position and position.dec_deg,
                "angle_to_source_deg": offset,
                "zenith_deg": (zd_min, zd_max),
                "dates": (int(first) if first else NO_FIRST_DATE, int(last) if last else NO_LAST_DATE),
                "max_diffuse_nsb_std_pe": nsb_max,
                "set": dict(settings or {}),
            },
            "request",
        )
        with catalog_session(self._url) as session:
            answer = list_runs(session, chosen, request)
            if good_time:
                answer = with_good_time(session, answer)
            return with_typical_subruns(session, answer) if typical else answer

    def night(
        self, night: Night | str, *, profile: Profile | str = "standard", good_time: bool = False, typical: bool = True
    ) -> RunList:
        """Judge the runs of one night as the nightly chain does: each at its own source.

        Raises
        ------
        ConfigError
            For an unknown profile and for what is no night.
        """
        chosen = profile if isinstance(profile, Profile) else load_profile(profile)
        with catalog_session(self._url) as session:
            answer = list_night(session, night if isinstance(night, Night) else Night.parse(night), chosen)
            if good_time:
                answer = with_good_time(session, answer)
            return with_typical_subruns(session, answer) if typical else answer

    def report(self, answer: RunList, title: str | None = None) -> str:
        """Return an answer as one HTML page with plots, light enough for an e-mail.

        Parameters
        ----------
        answer : RunList
            Of `runs` or `night`.
        title : str, optional
            What was asked for; default: the source.
        """
        from lstops.quality.overlay import decision_words
        from lstops.report.selection import named_source, selection_report
        from lstops.report.selection_model import SelectionReport, odd_run

        source, odd = named_source(answer.judgement.request), odd_run(answer.judgement)
        with catalog_session(self._url) as session:
            subruns = load_subruns(session, runs=[odd]) if odd is not None else SubrunTable.empty()
        content = SelectionReport.of(
            answer.judgement,
            answer.nsb,
            subruns,
            title=title or (source.name if source else "whole sky"),
            source=source,
            selected=answer.selected,
            decisions={run: decision_words(records) for run, records in answer.overlay.items() if records},
            time_s=answer.time_s,
            where=f"catalogue, {len(answer.history.nights)} nights",
        )
        return selection_report(content)

    def why(self, run: int, *, profile: Profile | str = "standard") -> RunAnswer:
        """Explain why a run is taken or not: cuts, decisions, good time, NSB, what blocked it, what uses it.

        Raises
        ------
        DataError
            If the catalogue does not know the run.
        """
        chosen = profile if isinstance(profile, Profile) else load_profile(profile)
        with catalog_session(self._url) as session:
            return explain_run(session, run, chosen)


def _night(value: Night | str | None) -> Night | None:
    return Night.parse(value) if isinstance(value, str) else value
