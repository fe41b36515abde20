"""Lint rules on the lstchain configuration: NSB level, sections for IRFs, hyper-parameters."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from lstops.production.findings import Finding, LintContext, Rule, Severity
from lstops.production.lstchain_config import RATE_KEY, RATIO_KEY, LstchainConfig, rate_key
from lstops.production.stages import StageName

#: Labels have two decimals; a larger distance from the value is a disagreement.
_LABEL_TOLERANCE_GHZ = 0.005
# with decimals only: "nsb14" names a cleaning level, not a rate
_LABEL = re.compile(r"nsb(?:[_-]?tuning)?[_-]?(\d+\.\d+)", re.IGNORECASE)


def _labels(context: LintContext) -> dict[str, float]:
    """NSB levels in GHz that names claim, by the name."""
    names = [context.production.prod_id]
    if context.config.path:
        names += [context.config.path.name, context.config.path.resolve().parent.name]
    if context.config.chain_path:
        names.append(context.config.chain_path.name)
    found = {name: match.group(1).rstrip(".") for name in names if (match := _LABEL.search(name))}
    return {name: float(text) for name, text in found.items()}


def no_chain(context: LintContext) -> Iterator[Finding]:
    """There is an lstchain configuration to check."""
    # one that is there and cannot be read is a finding already
    if context.config.chain is None and context.config.chain_path is None:
        yield Finding(
            code="no-lstchain-config",
            severity=Severity.INFO,
            place="file",
            message="no lstchain configuration was given, and none or several are beside the YAML: not checked",
            remedy="give it with --lstchain-config.",
        )


def nsb_label(context: LintContext) -> Iterator[Finding]:
    """The level in the names is the one that lstchain would use."""
    chain = context.config.chain
    labels = _labels(context)
    if chain is None or not labels:
        return
    if context.config.pipe.runs(StageName.DL1AB) and chain.modifies_images:
        return  # noise that is put into the images is measured with data: no number here says how much it is in GHz
    value = chain.nsb.effective(context.lstchain_version)
    if value is None:
        return  # nsb-key-version says why there is none
    wrong = {name: level for name, level in labels.items() if abs(level - value) > _LABEL_TOLERANCE_GHZ}
    if wrong:
        name, level = next(iter(wrong.items()))
        used = f"{value:g} GHz" if chain.nsb.enabled else "0 GHz (nsb_tuning is false)"
        yield Finding(
            code="nsb-label-mismatch",
            severity=Severity.ERROR,
            place="lstchain configuration: waveform_nsb_tuning",
            message=f"the names say {level:g} GHz ({name}), but lstchain would add {used}",
            remedy=f"set {rate_key(context.lstchain_version or '99')} to {level:g}, or rename the production.",
            count=len(wrong),
            items=tuple(wrong),
        )


def nsb_key(context: LintContext) -> Iterator[Finding]:
    """The NSB key is the one that this version reads, and the only one."""
    chain, version = context.config.chain, context.lstchain_version
    if chain is None or version is None:
        return
    right = rate_key(version)
    other = RATIO_KEY if right == RATE_KEY else RATE_KEY
    values = {RATE_KEY: chain.nsb.rate_ghz, RATIO_KEY: chain.nsb.ratio}
    if values[right] is None and chain.nsb.enabled:
        yield Finding(
            code="nsb-key-version",
            severity=Severity.ERROR,
            place="lstchain configuration: waveform_nsb_tuning",
            message=f"lstchain {version} reads {right}, which is missing"
            + (f"; there is {other}: {values[other]:g}" if values[other] is not None else ""),
            remedy=f"give the level as {right} (the key changed with 0.10.12).",
        )
    elif values[other] is not None:
        yield Finding(
            code="nsb-key-version",
            severity=Severity.WARNING if chain.nsb.enabled else Severity.INFO,
            place=f"lstchain configuration: waveform_nsb_tuning.{other}",
            message=f"lstchain {version} does not read {other}: {values[other]:g}"
            + (f"; it reads {right}: {values[right]:g}" if values[right] is not None else ""),
            remedy=f"remove {other}.",
        )


def tuning_without_effect(context: LintContext) -> Iterator[Finding]:
    """Noise is added where a stage applies it: waveforms in r0_to_dl1, images in dl1ab."""
    chain = context.config.chain
    if chain is None:
        return
    pipe = context.config.pipe
    if pipe.runs(StageName.R0_TO_DL1) and not pipe.runs(StageName.DL1AB) and chain.modifies_images:
        yield Finding(
            code="tuning-without-effect",
            severity=Severity.WARNING,
            place="lstchain configuration: image_modifier",
            message="image_modifier changes images in dl1ab only; r0_to_dl1 does not apply it",
            remedy="remove it, or tune this production with dl1ab (or with waveform_nsb_tuning).",
        )
    if pipe.runs(StageName.DL1AB) and chain.nsb.enabled:
        yield Finding(
            code="tuning-without-effect",
            severity=Severity.WARNING,
            place="lstchain configuration: waveform_nsb_tuning",
            message="waveform_nsb_tuning acts in r0_to_dl1 only; dl1ab does not apply it",
            remedy="set image_modifier (lstchain_tune_nsb), or start from r0_to_dl1.",
        )


def missing_sections(context: LintContext) -> Iterator[Finding]:
    """Where IRFs are made, cuts and binning are in the configuration."""
    chain = context.config.chain
    if chain is None or not context.config.pipe.runs(StageName.DL2_TO_IRFS) or not chain.missing_irf_sections:
        return
    yield _missing_section(
        context, StageName.DL2_TO_IRFS, chain.missing_irf_sections, "IRFs", "the same as the DL3 will be made with"
    )


def _missing_section(
    context: LintContext, stage: StageName, missing: tuple[str, ...], products: str, which: str
) -> Finding:
    return Finding(
        code="missing-section",
        severity=Severity.ERROR,
        place="lstchain configuration",
        message=f"{stage.value} runs without {', '.join(missing)}: the {products} would get the defaults of "
        f"lstchain {context.lstchain_version or '(unknown version)'}",
        remedy=f"add these sections, {which}.",
        count=len(missing),
        items=missing,
    )


#: What the training of lstchain reads, since 0.8 and before.
_FOREST_SECTIONS = tuple(
    key
    for features, forest in (
        ("energy_regression", "energy_regressor"),
        ("disp_regression", "disp_regressor"),
        ("disp_classification", "disp_classifier"),
        ("particle_classification", "particle_classifier"),
    )
    for key in (f"{features}_features", f"random_forest_{forest}_args")
)
_OLD_FOREST_SECTIONS = (
    "regression_features",
    "random_forest_regressor_args",
    "classification_features",
    "random_forest_classifier_args",
)


def missing_forests(context: LintContext) -> Iterator[Finding]:
    """Where forests are grown, their features and hyper-parameters are in the configuration."""
    chain = context.config.chain
    if chain is None or not context.config.pipe.runs(StageName.TRAIN_PIPE):
        return
    is_old = any(key in chain.content for key in _OLD_FOREST_SECTIONS)
    wanted = _OLD_FOREST_SECTIONS if is_old else _FOREST_SECTIONS
    no_sign = chain.content.get("disp_method") == "disp_vector"
    missing = tuple(key for key in wanted if key not in chain.content and not (no_sign and "disp_classif" in key))
    if missing:
        which = "the same as for the other productions that this one is compared with"
        yield _missing_section(context, StageName.TRAIN_PIPE, missing, "forests", which)


def _training_settings(chain: LstchainConfig) -> dict[str, Any]:
    """What determines a training, apart from the data, as flat settings."""
    settings: dict[str, Any] = {}
    for forest, parameters in chain.forests.items():
        settings.update({f"{forest}.{key}": value for key, value in parameters.items() if key != "n_jobs"})
    settings.update(chain.features)
    for key in ("n_training_events", "train_gamma_src_r_deg", "disp_method", "source_dependent"):
        if key in chain.content:
            settings[key] = chain.content[key]
    return settings


def hyperparameters(context: LintContext) -> Iterator[Finding]:
    """All levels of a grid are trained alike; the one that is not like most of them is the one that is wrong."""
    if context.unreadable_siblings:
        yield Finding(
            code="no-lstchain-config",
            severity=Severity.INFO,
            place="file",
            message=f"not compared with {', '.join(context.unreadable_siblings)}: their configuration cannot be read",
            remedy="lint these levels, too.",
            count=len(context.unreadable_siblings),
            items=context.unreadable_siblings,
        )
    chain = context.config.chain
    if chain is None or not context.siblings:
        return
    own = _training_settings(chain)
    others = {name: _training_settings(sibling) for name, sibling in context.siblings.items()}
    wrong: dict[str, tuple[str, str]] = {}
    undecided: dict[str, tuple[str, str]] = {}
    for key in sorted({*own, *(key for settings in others.values() for key in settings)}):
        mine = json.dumps(own.get(key), sort_keys=True)
        votes = Counter([mine, *(json.dumps(settings.get(key), sort_keys=True) for settings in others.values())])
        # the most frequent other value, to compare this one's number of votes with
        theirs = max((value for value in votes if value != mine), key=votes.__getitem__, default=mine)
        if theirs != mine and votes[mine] < votes[theirs]:
            wrong[key] = (mine, theirs)
        elif theirs != mine and votes[mine] == votes[theirs]:
            undecided[key] = (mine, theirs)
    for settings, severity in ((wrong, Severity.ERROR), (undecided, Severity.WARNING)):
        if settings:
            shown = "; ".join(
                f"{key} is {mine} here, {theirs} there" for key, (mine, theirs) in [*settings.items()][:4]
            )
            yield Finding(
                code="hyperparameters-differ",
                severity=severity,
                place="lstchain configuration: " + next(iter(settings)),
                message=f"trained unlike the other {len(others)} levels of the grid: {shown}",
                remedy="train all levels alike, else their results cannot be interpolated or compared.",
                count=len(settings),
                items=tuple(settings),
            )


RULES: tuple[Rule, ...] = (
    no_chain,
    nsb_label,
    nsb_key,
    tuning_without_effect,
    missing_sections,
    missing_forests,
    hyperparameters,
)
