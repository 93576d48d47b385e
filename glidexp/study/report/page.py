"""The sections of a study's report, as blocks."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from glidexp.scoring.study_plots import curves_figure, pareto_figure, variance_figure
from glidexp.study.comparison.compare import Comparison, sentence, verdict
from glidexp.study.comparison.factors import factors_of
from glidexp.study.comparison.trainings import Curves, unlike_tiles
from glidexp.study.execution.cells import sized
from glidexp.study.names import those
from glidexp.study.report.blocks import Block, Fold, Heading, Link, Picture, Points, Table, Text, Tiles
from glidexp.study.report.cautions import naive
from glidexp.study.report.data import Findings, facts
from glidexp.study.report.factors import factor_blocks
from glidexp.study.report.tables import (
    BEYOND,
    NONE,
    axis,
    checks_table,
    detectable,
    forests,
    main_table,
    number,
    sample,
    stratum_table,
)
from glidexp.study.report.transfer import transfer_blocks
from glidexp.tracking.found import all_parts
from glidexp.wording import does, many, part


def sections(found: Findings, tiles: Sequence[Tiles], about_tiles: str, link: str, hint: str) -> list[Block]:
    """The whole report, in reading order.

    Args:
        found: from `data.find`
        tiles: from `tiles.probe_tiles`
        about_tiles: how they are read, or why there are none
        link: opens the runs in the comparison view
        hint: what must be started before it works
    """
    return [
        *_opening(found),
        *_result(found),
        *transfer_blocks(found),
        *factor_blocks(found),
        *_training(found),
        Heading("Probe tiles"),
        Text(about_tiles),
        *tiles[:1],
        *([Fold(many(len(tiles) - 1, "more tile"), tiles[1:])] if tiles[1:] else []),
        *_limits(found),
        *_design(found),
        *_sources(found),
        Heading("In detail"),
        *_strata(found),
        *_runs(found, link, hint),
    ]


def _opening(found: Findings) -> Iterable[Block]:
    if found.study.plan.question:  # a grid of one's own asks none
        yield Text(found.study.plan.question, "lead")
    if found.comparison is None:
        yield Text("No verdict: " + " ".join(found.cautions[:2]), "warn")
        return
    comparison = found.comparison
    rows = comparison.rows[1:]
    kinds = []
    for row in rows:
        said = verdict(row, comparison)
        kinds.append("better" if said[:6] == "better" else "worse" if said[:5] == "worse" else "")
    yield Text(f"Against the baseline ({comparison.rows[0].arm.name}):")
    yield Points([f"{row.arm.name}: {sentence(row, comparison)}" for row in rows], kinds)
    yield from (Text(said, "warn") for said in naive(comparison))
    if found.study.missing:
        yield Text(
            f"{len(found.study.missing)} of {many(len(found.study.entries), 'run')} "
            f"{does(len(found.study.missing), 'are')} missing.",
            "warn",
        )


def _result(found: Findings) -> Iterable[Block]:
    comparison = found.comparison
    if comparison is None:
        return
    yield Heading("Result")
    yield main_table(comparison)
    pictures = forests("forest", comparison)
    for place, (name, draw) in enumerate(pictures.items(), 1):
        of = f" Part {place} of {len(pictures)}." * (len(pictures) > 1)
        yield Picture.of(name, draw, _forest_caption(comparison) + of)
    yield from (Fold("What the arms are", [table]) for table in _arms(found))
    first = "best" if comparison.measure.better else "highest"
    best = int(np.argmax(comparison.ranks[:, 0]))
    yield Text(
        f"Rank stability: the {first} in {part(comparison.ranks[best, 0])} of 2,000 redrawn worlds "
        f"({comparison.ground.kind}s and seeds drawn with replacement) is {comparison.rows[best].arm.name}."
    )
    yield Fold("All ranks, and second opinions", [_ranks(comparison), checks_table(comparison)])


def _arms(found: Findings) -> Iterable[Table]:
    """What the short names stand for; nothing where a study explains its arms itself."""
    words: dict[str, tuple[str, ...]] = {}
    for cell in found.study.plan.cells:
        words.setdefault(cell.arm, tuple(word for word in cell.words if not word.startswith("seed=")))
    shared = set.intersection(*map(set, words.values())) if words else set()
    rows = [[arm, " ".join(word for word in of if word not in shared)] for arm, of in words.items()]
    if not found.study.plan.laid_out and any(settings for _, settings in rows):
        yield Table("arms", "What the arms are: the settings in which they differ.", ["arm", "settings"], rows)


def _forest_caption(comparison: Comparison) -> str:
    up, down = ("better", "worse") if comparison.measure.better else ("higher", "lower")
    return (
        f"Left: every {'seed' if comparison.folds else 'training'}'s {comparison.measure.words}. Right: paired "
        f"difference to the baseline ({comparison.rows[0].arm.name}); where it holds up after Holm it is filled, blue "
        f"for {up} and orange for {down}; where it does not it is hollow and grey."
    )


def _ranks(comparison: Comparison) -> Table:
    ranks = range(len(comparison.rows))
    first = "best" if comparison.measure.better else "highest"
    rows = [
        [row.arm.name, *(part(share).removesuffix("%") for share in comparison.ranks[place])]
        for place, row in enumerate(comparison.rows)
    ]
    return Table(
        "ranks",
        f"Share of redrawn worlds in which an arm takes a rank [%], the {first} being the 1st.",
        ["arm", *(f"{r + 1}." for r in ranks)],
        rows,
    )


def _design(found: Findings) -> Iterable[Block]:
    study = found.study
    yield Heading("Design")
    seeds = ", ".join(map(str, study.plan.seeds))
    # of arms without a finished run as well
    factors = [] if study.plan.laid_out else factors_of(study.plan, study.plan.arms)
    varied = "; ".join(f"{factor.name}: {', '.join(factor.levels)}" for factor in factors)
    size = sized(len(study.plan.arms), len(study.plan.seeds), 0) + f" ({seeds})"
    size += f" x {many(study.plan.folds, 'fold')} of the ground, each of them test once" * bool(study.plan.folds)
    yield Text(
        f"{size}, the same in every arm, scored on the same ground. "
        f"Varied: {varied or _laid_out(study.plan.laid_out)}. Primary score: {study.plan.primary}; at most "
        f"{100 * study.plan.alpha:g} % false alarms over all comparisons (Holm)."
        + (f" {study.plan.budget.rstrip('.')}." if study.plan.budget else "")
    )
    provenance = Table("facts", "Provenance.", ["what", "value"], [list(fact) for fact in facts(found)])
    yield Fold("What ran on what", [provenance])
    pixels = unlike_tiles(found.costs)
    cells = [
        [
            cost.arm, f"{cost.trainings}", number(cost.parameters, 1e-6), number(cost.images_per_s, digits=1),
            *([number(cost.megapixels_per_s)] if pixels else []), number(cost.hours, digits=3),
            number(cost.kwh, digits=3),
        ]
        for cost in found.costs
    ]  # fmt: skip
    headings = ["arm", "n", "parameters [10^6]", "images/s", *(["megapixels/s"] if pixels else [])]
    headings += ["hours a training", "kWh a training"]
    cost = Table("cost", "What each arm takes, means over its n trainings.", headings, cells)
    yield Fold("What each arm takes", [cost])


def _laid_out(plan: Mapping[str, Any]) -> str:
    if plan.get("kind") == "matrix":
        return f"the {plan['by']}s that are trained on"
    if plan.get("kind") == "ladder":
        return f"the way from {', '.join(plan['sources'])} to {plan['target']}"
    return "nothing that is known"


def _strata(found: Findings) -> Iterable[Block]:
    groups = (
        ("by_stratum", "By sensor and region", found.by_stratum),
        ("by_size", "Lake recall by size class", found.by_size),
        ("also", "Other scores", found.also),
    )
    for name, title, comparisons in groups:
        if comparisons:
            yield Fold(title, [stratum_table(name, comparisons)])


def _sources(found: Findings) -> Iterable[Block]:
    comparison = found.comparison
    if comparison is None:
        return
    yield Heading("Where the spread comes from")
    if found.variance is not None:
        yield Picture.of(
            "variance",
            partial(variance_figure, found.variance),
            f"Variance of one training's {comparison.measure.words} on one {comparison.ground.kind}, by source "
            "(pseudo-values; negative components as 0).",
        )
    rows = []
    for row in comparison.rows[1:]:
        cells = [number(row.shares.get(name), 100, digits=0) for name in ("seed", "cluster", "rest")]
        rows.append([row.arm.name, *cells, detectable(row.detectable, comparison.measure)])
    headings = ["difference of", "seeds [%]", f"{comparison.ground.kind}s [%]", "rest [%]"]
    headings.append(f"found with 80 % power [{comparison.measure.unit}]")
    caption = "What the uncertainty of each difference is made of, and what this design can find."
    if any(row[-1] == BEYOND for row in rows):
        caption += f" {BEYOND}: no difference that there can be."
    yield Fold("What this design can find", [Table("power", caption, headings, rows)])
    if found.factor_shares is not None:
        parts_said = ", ".join(f"{name} {share:.0%}" for name, share in found.factor_shares.items())
        yield Text(f"Of the differences between the arms (sum of squares): {parts_said}.")


def _training(found: Findings) -> Iterable[Block]:
    if found.curves is not None and found.curves.by_arm:
        yield from _curves(found.curves)
    comparison = found.comparison
    if comparison is None or not any(c.images_per_s or c.parameters for c in found.costs):
        return
    cost = {one.arm: one for one in found.costs}
    scale = comparison.measure.scale
    pixels = unlike_tiles(found.costs)  # of which images/s would say nothing
    speed = "megapixels/s" if pixels else "images/s"
    points = []
    for row in comparison.rows:
        one = cost[row.arm.name]
        per_s = one.megapixels_per_s if pixels else one.images_per_s
        points.append((row.arm.name, scale * row.mean, per_s, one.parameters))
    yield Heading("Score against cost")
    drawn = partial(
        pareto_figure, points, score=axis(comparison.measure),
        n=sample((len(row.values) for row in comparison.rows), comparison),
        better=comparison.measure.better, speed=speed,
    )  # fmt: skip
    front = "Nothing beats the arms on the dotted line in both. " * bool(comparison.measure.better)
    caption = (
        f"{front}{speed[:1].upper()}{speed[1:]} as each training measured it, on a machine that may have been shared."
    )
    yield Picture.of("pareto", drawn, caption)


def _curves(curves: Curves) -> Iterable[Block]:
    yield Heading("Learning curves")
    if drawn := curves.drawn:
        along = f", by {curves.along.split(' [')[0]}" if curves.along != "epoch" else ""
        caption = (
            f"{curves.name} after each epoch{along}: mean over the trainings of an arm, band from the lowest to the "
            "highest."
        )
        if any(len({max(one) for one in of if one}) > 1 for of in drawn.values()):
            caption += " Where trainings of an arm are of unlike length, its line ends with the shortest."
        picture = partial(curves_figure, drawn, score=f"{curves.name} [points]", scale=100, along=curves.along)
        yield Picture.of("curves", picture, caption)
    without = {
        "one epoch a training, which is a point": curves.points,
        f"{curves.name} was logged after no epoch": curves.none,
    }
    for why, arms in without.items():
        if arms:
            yield Text(f"No curve of {those(arms, list(curves.by_arm))}: {why}.")


def _limits(found: Findings) -> Iterable[Block]:
    yield Heading("What failed")
    if found.study.missing:
        yield Points(found.study.missing)
    else:
        yield Text(f"Nothing: all {many(len(found.study.entries), 'run')} finished.")
    yield Heading("What cannot be concluded")
    yield Points(found.cautions)


def _runs(found: Findings, link: str, hint: str) -> Iterable[Block]:
    if link:
        yield Link(f"Side by side in MLflow{f' ({hint})' if hint else ''}", link)
    runs = []
    for arm in found.study.arms:
        for run in all_parts(arm.runs):
            trained = found.study.trained[run.run_id]
            key = trained.tags.get("glidexp.config_id", NONE)
            runs.append([arm.name, run.params["seed"], key, trained.run_id, run.run_id if run is not trained else ""])
    rows = [[*row[:4], row[4] if row[4] != row[3] else NONE] for row in runs]
    headings = ["arm", "seed", "config id", "training", "scored as"]
    yield Fold("The runs", [Table("runs", "Every finished run that is compared.", headings, rows)])
