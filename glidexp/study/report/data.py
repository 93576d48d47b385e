"""Everything that a study's report says, found in the store once."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from glidexp.errors import ConfigError, DataError, GlidexpError, TrackingError
from glidexp.identity import VERSION_TAG
from glidexp.scoring.components import lower_bound
from glidexp.scoring.confusion import STRATA, strata
from glidexp.study.comparison.compare import Comparison, compare_arms, same_rule
from glidexp.study.comparison.factors import (
    Factor,
    Interaction,
    Layout,
    LevelEffect,
    around,
    factor_shares,
    factors_of,
    interactions,
    layout_of,
    main_effects,
    values_by_cell,
    variance_parts,
)
from glidexp.study.comparison.ladder import Ladder, climb
from glidexp.study.comparison.material import Material, gather
from glidexp.study.comparison.measures import FALLBACK, Measure, measure_of, strata_of_lakes
from glidexp.study.comparison.studies import Study
from glidexp.study.comparison.trainings import Cost, Curves, Total, costs_of, curves_of
from glidexp.study.comparison.transfer import Matrix, lay_out
from glidexp.study.names import short_names
from glidexp.study.report.cautions import cautions
from glidexp.tracking.store import Store
from glidexp.wording import many

OF_LAKES = ("lake_recall", "lake_precision", "area_error_percent", "area_bias_percent", "assd_m", "assd_px")
"""per-lake scores of the report's table, as far as the lakes have them"""


@dataclass(slots=True)
class Findings:
    """What the report is made of. Lists are empty and values None where the study does not give them."""

    study: Study
    """its arms by their short names"""
    full: dict[str, str] = field(default_factory=dict)
    """name of an arm in the plan, by its short one"""
    comparison: Comparison | None = None
    also: list[Comparison] = field(default_factory=list)
    """of all lakes, and other scores beside the primary one"""
    by_stratum: list[Comparison] = field(default_factory=list)
    """the primary score by sensor and region"""
    by_size: list[Comparison] = field(default_factory=list)
    """lake recall by size class"""
    factors: list[Factor] = field(default_factory=list)
    layout: Layout = Layout.other
    effects: list[LevelEffect] = field(default_factory=list)
    interactions: list[Interaction] = field(default_factory=list)
    variance: dict[str, float] | None = None
    factor_shares: dict[str, float] | None = None
    curves: Curves | None = None
    costs: list[Cost] = field(default_factory=list)
    total: Total = field(default_factory=lambda: Total(0, 0.0, None))
    material: Material | None = None
    matrix: Matrix | None = None
    ladder: Ladder | None = None
    cautions: list[str] = field(default_factory=list)
    """what cannot be concluded"""


def find(store: Store, study: Study) -> Findings:
    """Reads and computes all of it.

    Raises:
        TrackingError: the store cannot be read
    """
    names = dict(zip(study.plan.arms, study.plan.arms, strict=True))
    if not study.plan.laid_out:  # which names its arms itself
        names = short_names(study.plan.arms)[1]
    found = Findings(study.renamed(names), {short: name for name, short in names.items()})
    study = found.study
    found.costs, found.total = costs_of(store, study)
    measure = _primary(found)
    found.curves = curves_of(store, study, measure)
    if not study.plan.laid_out:
        found.factors = factors_of(study.plan, [arm.name for arm in study.arms])
    try:
        _compare(store, found, measure)
    except (DataError, TrackingError) as error:
        found.cautions.append(f"The arms could not be compared: {error}")
    found.cautions += cautions(study, found.comparison)
    return found


def _primary(found: Findings) -> Measure:
    try:
        return measure_of(found.study.plan.primary)
    except ConfigError:
        found.cautions.append(
            f"The study's primary score {found.study.plan.primary} is not made of sums over scenes, so that it has no "
            f"interval; {FALLBACK} is compared instead."
        )
        return measure_of(FALLBACK)


def _compare(store: Store, found: Findings, measure: Measure) -> None:
    study, level = found.study, 1 - found.study.plan.alpha
    if len(study.arms) < 2 or study.arms[0].name != study.plan.arms[0]:
        raise DataError("the baseline and one other arm need a finished run each.")
    runs = [run for arm in study.arms for run in arm.runs]
    if study.plan.laid_out.get("kind") != "ladder":  # whose rungs have rules of their own, which is their point
        same_rule(runs, measure)
    try:
        material = gather(store, runs, measure.split, lakes=True)
    except TrackingError:
        if measure.of_lakes:
            raise
        material = gather(store, runs, measure.split)
    found.material = material
    arms = study.arms
    found.layout = layout_of(found.factors, [arm.name for arm in arms])
    found.comparison = compare_arms(arms, material, measure, level=level, bootstrap=True)
    _transfer(found, material, measure, level)
    sums = material.sums(arms, measure)
    count = measure.weights(*sums) > 0
    weights = {arm.name: measure.weights(table)[count] for arm, table in zip(arms, sums, strict=True)}
    if (known := values_by_cell(arms, sums, measure)) is not None:
        cells, scores = known
        found.variance = variance_parts(cells, material.ground.kind)
        whole = found.layout in (Layout.grid, Layout.balanced)
        alone = found.factors if whole else around(found.factors, [arm.name for arm in arms])
        found.effects = main_effects(alone, cells, level=level, weights=weights, scores=scores)
        if found.layout is Layout.grid and len(found.factors) > 1:
            found.interactions = interactions(found.factors, cells, level=level, weights=weights, scores=scores)
            found.factor_shares = factor_shares(found.factors, cells)
    found.by_stratum = list(_compared(found, _strata(material, measure)))
    found.by_size = list(_compared(found, _sizes(material, measure.split)))
    found.also = list(_compared(found, _others(material, measure)))


def _transfer(found: Findings, material: Material, measure: Measure, level: float) -> None:
    """Matrix or ladder of a study that is one."""
    laid_out, arms = found.study.plan.laid_out, found.study.arms
    try:
        if laid_out.get("kind") == "matrix":
            found.matrix = lay_out(arms, material, measure, by=laid_out["by"], level=level)
        elif laid_out.get("kind") == "ladder":
            found.ladder = climb(arms, material, measure.everywhere(), laid_out, level=level)
    except (ConfigError, DataError) as error:
        found.cautions.append(f"Sources and targets could not be laid out: {error}")


def _compared(found: Findings, measures: Iterable[Measure]) -> Iterable[Comparison]:
    """Comparisons of these scores, those without a value for some arm left out."""
    assert found.material is not None
    for measure in measures:
        try:
            one = compare_arms(found.study.arms, found.material, measure, level=1 - found.study.plan.alpha, ranks=False)
        except GlidexpError:
            continue
        yield one


def _strata(material: Material, measure: Measure) -> Iterable[Measure]:
    if measure.stratum is not None or measure.aggregation != "pooled" or measure.of_lakes:
        return
    table = next(iter(material.tables.values()))
    for kind in STRATA:
        names = [name for name in strata(table[kind]) if name != "unknown"]
        yield from (measure.within(kind, name) for name in names if len(names) > 1)


def _sizes(material: Material, split: str) -> Iterable[Measure]:
    names: set[str] = set()
    for lakes in material.lakes.values():
        names |= set(strata_of_lakes(lakes, "size"))
    for name in sorted(names, key=lower_bound):
        yield measure_of(f"{split}/size/{name}/lake_recall")


def _others(material: Material, measure: Measure) -> Iterable[Measure]:
    if not measure.of_lakes:
        for score in ("precision", "recall", "f1", "lake_iou"):
            if score != measure.score:
                yield measure_of(f"{measure.split}/{score}_pooled")
    if material.lakes:
        metric = not any(lakes["gsd_m"].isna().any() for lakes in material.lakes.values())
        for score in OF_LAKES:
            if score != measure.score and score != ("assd_px" if metric else "assd_m"):
                yield measure_of(f"{measure.split}/{score}")


def facts(findings: Findings) -> list[tuple[str, str]]:
    """What ran on what, in words."""
    study = findings.study
    tags = {
        "commit": "mlflow.source.git.commit",
        "results version": VERSION_TAG,
        "data": "glidexp.data_hash",
        "split": "glidexp.split_hash",
        "device": "glidexp.device",
        "processor": "glidexp.cpu",
        "torch": "glidexp.torch",
        "precision": "glidexp.train.precision",
    }
    found = []
    for name, tag in tags.items():
        values = {value: n for value, n in study.said_of(tag).items() if value}
        short = 12 if name in ("commit", "data", "split") else 200
        told = [value[:short] + f" ({many(n, 'training')})" * (len(values) > 1) for value, n in values.items()]
        found.append((name, "; ".join(told)))
    total = findings.total
    said = f"{total.hours:.2f}, breaks of runs that went on included"
    found.append((f"hours of {many(total.trainings, 'finished training')}", said))
    found.append(("energy", "not measured" if total.kwh is None else f"{total.kwh:.2f} kWh of the GPUs"))
    found.append(("study", f"{study.study_id}, parent run {study.parent.run_id}"))
    return [(name, value or "not known") for name, value in found]
