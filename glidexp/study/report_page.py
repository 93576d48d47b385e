"""The sections of a study's report, as blocks."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from glidexp.scoring.figures import png_bytes
from glidexp.scoring.study_plots import (
    Point,
    curves_figure,
    effects_figure,
    interaction_figure,
    pareto_figure,
    variance_figure,
)
from glidexp.study.compare import Comparison, sentence, verdict
from glidexp.study.names import short_names
from glidexp.study.report_blocks import Block, Heading, Link, Picture, Points, Table, Text, Tiles
from glidexp.study.report_data import Findings, facts
from glidexp.study.report_tables import NONE, axis, checks_table, forest, interval, main_table, number, stratum_table
from glidexp.study.report_transfer import transfer_blocks


def sections(found: Findings, tiles: Sequence[Tiles], about_tiles: str, link: str, hint: str) -> list[Block]:
    """The whole report, in reading order.

    Args:
        found: from `report_data.find`
        tiles: from `report_tiles.probe_tiles`
        about_tiles: how they are read, or why there are none
        link: opens the runs in the comparison view
        hint: what must be started before it works
    """
    return [
        *_opening(found),
        *_result(found),
        *transfer_blocks(found),
        *_design(found),
        *_strata(found),
        *_sources(found),
        *_factors(found),
        *_training(found),
        Heading("Probe tiles"),
        Text(about_tiles),
        *tiles,
        *_ending(found, link, hint),
    ]


def _opening(found: Findings) -> Iterable[Block]:
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
    yield Text(f"Against the baseline, {comparison.rows[0].arm.name}:")
    yield Points([f"{row.arm.name}: {sentence(row, comparison)}" for row in rows], kinds)
    if found.study.missing:
        yield Text(f"{len(found.study.missing)} of {len(found.study.entries)} runs are missing.", "warn")


def _result(found: Findings) -> Iterable[Block]:
    comparison = found.comparison
    if comparison is None:
        return
    yield Heading("Result")
    yield main_table(comparison)
    yield Picture("forest", png_bytes(forest(comparison)), _forest_caption(comparison))
    best = int(np.argmax(comparison.ranks[:, 0]))
    yield Text(
        f"Rank stability: {comparison.rows[best].arm.name} is the best in {comparison.ranks[best, 0]:.0%} of 2,000 "
        "redrawn worlds (scenes and seeds drawn with replacement)."
    )
    yield _ranks(comparison)
    yield checks_table(comparison)


def _forest_caption(comparison: Comparison) -> str:
    return (
        f"Left: every training's {comparison.measure.words}. Right: paired difference to "
        f"{comparison.rows[0].arm.name}; blue for better and orange for worse where it holds up after Holm."
    )


def _ranks(comparison: Comparison) -> Table:
    ranks = range(len(comparison.rows))
    rows = [
        [row.arm.name, *(f"{100 * share:.0f}" for share in comparison.ranks[place])]
        for place, row in enumerate(comparison.rows)
    ]
    return Table(
        "ranks",
        "Share of redrawn worlds in which an arm takes a rank [%].",
        ["arm", *(f"{r + 1}." for r in ranks)],
        rows,
    )


def _design(found: Findings) -> Iterable[Block]:
    study = found.study
    yield Heading("Design")
    seeds = ", ".join(map(str, study.plan.seeds))
    varied = "; ".join(f"{factor.name}: {', '.join(factor.levels)}" for factor in found.factors)
    yield Text(
        f"{len(study.plan.arms)} arms x {len(study.plan.seeds)} seeds ({seeds}), the same seeds in every arm, "
        f"scored on the same ground. Varied: {varied or _laid_out(study.plan.laid_out)}. "
        f"Primary score: {study.plan.primary}; family error rate {study.plan.alpha:g}, after Holm."
        + (f" {study.plan.budget.rstrip('.')}." if study.plan.budget else "")
    )
    yield Heading("What ran on what")
    yield Table("facts", "Provenance.", ["what", "value"], [list(fact) for fact in facts(found)])
    cells = [
        [
            cost.arm, number(cost.parameters, 1e-6), number(cost.images_per_s, digits=1), number(cost.hours, digits=3),
            number(cost.kwh, digits=3),
        ]
        for cost in found.costs
    ]  # fmt: skip
    headings = ["arm", "parameters [10^6]", "images/s", "hours a training", "kWh a training"]
    yield Table("cost", "What each arm takes, means over its trainings.", headings, cells)


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
            yield Heading(title)
            yield stratum_table(name, comparisons)


def _sources(found: Findings) -> Iterable[Block]:
    comparison = found.comparison
    if comparison is None:
        return
    yield Heading("Where the spread comes from")
    if found.variance is not None:
        shares = dict(found.variance)
        yield Picture(
            "variance",
            png_bytes(variance_figure(shares)),
            f"Variance of one training's {comparison.measure.words} on one {comparison.ground.kind}, by source "
            "(pseudo-values; negative components as 0).",
        )
    rows = []
    for row in comparison.rows[1:]:
        parts = row.effect.parts if row.effect else None
        both = parts is not None and parts.seeds > 1 and parts.clusters > 1
        shares = parts.shares if parts is not None and both else {}
        cells = [f"{100 * shares[name]:.0f}" if shares else NONE for name in ("seed", "cluster", "rest")]
        rows.append([row.arm.name, *cells, number(row.detectable, comparison.measure.scale)])
    headings = ["difference of", "seeds [%]", f"{comparison.ground.kind}s [%]", "rest [%]"]
    headings.append(f"found with 80 % power [{comparison.measure.unit}]")
    yield Table(
        "power", "What the uncertainty of each difference is made of, and what this design can find.", headings, rows
    )
    if found.factor_shares is not None:
        parts_said = ", ".join(f"{name} {share:.0%}" for name, share in found.factor_shares.items())
        yield Text(f"Of the differences between the arms (sum of squares): {parts_said}.")


def _factors(found: Findings) -> Iterable[Block]:
    comparison = found.comparison
    if comparison is None or not found.effects:
        return
    measure, scale = comparison.measure, comparison.measure.scale
    yield Heading("Main effects and interactions")
    points: dict[str, list[Point]] = {}
    rows = []
    first: dict[str, float] = {}
    for one in found.effects:
        start = first.setdefault(one.factor, one.mean)
        low, high = (start + one.effect.low, start + one.effect.high) if one.effect else (float("nan"),) * 2
        points.setdefault(one.factor, []).append(Point(one.level, scale * one.mean, scale * low, scale * high))
        rows.append([one.factor, one.level, number(one.mean, scale), interval(one.effect, scale)])
    picture = effects_figure(points, score=axis(measure), level=comparison.level)
    yield Picture("main_effects", png_bytes(picture), f"Each factor, averaged over all others, over {_shared(found)}.")
    caption = f"Main effects on {axis(measure)}, difference to the factor's first level; not adjusted for being many."
    yield Table("main_effects", caption, ["factor", "level", "mean", "difference"], rows)
    if len(found.factors) == 2:
        along, lines = found.factors
        values = {
            (along.level[row.arm.name], lines.level[row.arm.name]): [scale * v for v in row.values]
            for row in comparison.rows
        }
        drawn = interaction_figure(values, names=(along.name, lines.name), score=axis(measure))
        yield Picture("interaction", png_bytes(drawn), "Parallel lines: the factors do not depend on each other.")
    rows = [
        [" with ".join(f"{factor}={level}" for factor, level in one.levels), interval(one.effect, scale)]
        for one in found.interactions
    ]
    caption = f"Interactions on {axis(measure)}: by how much one factor's effect is larger at the other's level."
    yield Table("interactions", caption, ["levels", f"difference of differences [{comparison.level:.0%}]"], rows)


def _shared(found: Findings) -> str:
    seeds = set.intersection(*(set(arm.seeds) for arm in found.study.arms))
    return f"the {len(seeds)} seeds that all arms have" if len(seeds) > 1 else "the one seed that all arms have"


def _training(found: Findings) -> Iterable[Block]:
    if found.curves:
        yield Heading("Learning curves")
        _, short = short_names(list(found.curves))
        curves = {short[name]: trainings for name, trainings in found.curves.items()}
        drawn = curves_figure(curves, score=found.curve_name, scale=100)
        caption = (
            f"{found.curve_name} by epoch: mean over the trainings of an arm, band from the lowest to the highest."
        )
        yield Picture("curves", png_bytes(drawn), caption)
    comparison = found.comparison
    if comparison is None or not any(c.images_per_s or c.parameters for c in found.costs):
        return
    cost = {one.arm: one for one in found.costs}
    scale = comparison.measure.scale
    _, short = short_names([row.arm.name for row in comparison.rows])
    points = [
        (
            short[row.arm.name],
            scale * float(np.mean(row.values)),
            cost[row.arm.name].images_per_s,
            cost[row.arm.name].parameters,
        )
        for row in comparison.rows
    ]
    yield Heading("Score against cost")
    drawn = pareto_figure(points, score=axis(comparison.measure), higher=comparison.measure.better >= 0)
    caption = (
        "Nothing beats the arms on the dotted line in both. Images/s as each training measured it, on a machine that "
    )
    caption += "may have been shared."
    yield Picture("pareto", png_bytes(drawn), caption)


def _ending(found: Findings, link: str, hint: str) -> Iterable[Block]:
    yield Heading("What failed")
    if found.study.missing:
        yield Points(found.study.missing)
    else:
        yield Text(f"Nothing: all {len(found.study.entries)} runs are finished.")
    yield Heading("What cannot be concluded")
    yield Points(found.cautions)
    yield Heading("The runs")
    if link:
        yield Link(f"Side by side in MLflow{f' ({hint})' if hint else ''}:", link)
    runs = []
    for arm in found.study.arms:
        for run in arm.runs:
            trained = found.study.trained[run.run_id]
            key = trained.tags.get("glidexp.config_id", NONE)
            runs.append([arm.name, run.params["seed"], key, trained.run_id, run.run_id if run is not trained else ""])
    rows = [[*row[:4], row[4] if row[4] != row[3] else NONE] for row in runs]
    yield Table("runs", "Every finished run.", ["arm", "seed", "config id", "training", "scored as"], rows)
