"""The part of a study's report that is about transfer: the matrix of sources and targets, the ladder of a target."""

from collections.abc import Iterable
from functools import partial

from glidexp.config.transfer import GOING_ON, Rung
from glidexp.scoring.heatmap import heatmap_figure
from glidexp.scoring.study_plots import few_shot_figure
from glidexp.study.comparison.ladder import Ladder, Step, crossings, said_crossings
from glidexp.study.comparison.transfer import Matrix, Pair
from glidexp.study.report.blocks import Block, Fold, Heading, Picture, Points, Table, Text
from glidexp.study.report.data import Findings
from glidexp.study.report.tables import NONE, interval, number, p_value
from glidexp.wording import many, percent

WAYS = {
    "zero-shot": "the source's network as it is",
    Rung.threshold: "the threshold that is best on the target's val tiles",
    Rung.normalise: "mean and deviation of the target's images",
    Rung.histogram: "the target's values on the source's distribution",
    Rung.batch_norm: "batch statistics of the target's images (AdaBN)",
    Rung.longer: "on the sources for as many steps again",
    Rung.style: "on the sources in the look of the target's images (FDA)",
    Rung.self_training: "on the sources, and on the target's images with labels that the network gave",
    Rung.head: "the decoder learns, the encoder stays",
    Rung.staged: "the decoder first, then a stage of the encoder after the other",
    Rung.full: "everything learns",
    Rung.lora: "the decoder and low-rank adapters learn, the encoder's own weights stay",
    Rung.scratch: "on the target alone, begun as the source was",
}
"""what each rung does"""


def transfer_blocks(found: Findings) -> Iterable[Block]:
    """Matrix or ladder of a study that is one; nothing for others."""
    if found.matrix is not None:
        yield from _matrix(found.matrix)
    if found.ladder is not None:
        yield from _ladder(found.ladder)


def _matrix(matrix: Matrix) -> Iterable[Block]:
    measure, scale = matrix.measure, 100.0
    yield Heading("Transfer matrix")
    yield Points(_read(matrix))
    picture = partial(
        heatmap_figure, matrix.means, matrix.sources, matrix.targets, score=measure.words, across=matrix.by,
        rest_on=matrix.rest_on,
    )  # fmt: skip
    yield Picture.of(
        "transfer_matrix",
        picture,
        f"{measure.words}, points: means over the seeds of a source, on the {matrix.ground}s of a target, as said "
        f"beside their names. Framed: trained and scored on the same {matrix.by}.",
    )
    ground = ", ".join(f"{target} {n}" for target, n in zip(matrix.targets, matrix.rest_on[1], strict=True))
    headings = [f"trained on ({matrix.by})", "n", *matrix.targets, "mean regret"]
    rows = [
        [
            source,
            f"{len(matrix.pairs[source, matrix.targets[0]].values)}",
            *(number(matrix.pairs[source, target].mean, scale) for target in matrix.targets),
            number(matrix.regret(source), scale),
        ]
        for source in matrix.sources
    ]
    caption = (
        f"{measure.words} [points] by source (down, mean over n trainings) and target (across; test ground: {ground}). "
        "Mean regret: what is lost with this source everywhere in place of the best one for each target."
    )
    yield Table("transfer_matrix", caption, headings, rows)
    cells = [
        [
            f"{pair.source} → {pair.target}",
            NONE if pair.gap is None else f"{pair.gap.parts.seeds}",
            f"{pair.clusters}",
            interval(pair.gap, scale),
            p_value(pair.p_holm),
            number(pair.regret, scale),
            NONE if pair.asymmetry != pair.asymmetry else f"{scale * pair.asymmetry:+.1f}",
        ]
        for pair in matrix.pairs.values()
        if pair.source != pair.target
    ]
    pairs = Table(
        "transfer_pairs",
        f"Gap: what the target's own source has more [points, {percent(matrix.level)} over seeds and test ground]; p "
        "after Holm over all gaps. Regret: what the best source on this target has more. Asymmetry: how much better "
        "this way is than the way back.",
        ["source → target", "seeds", f"{matrix.ground}s", "gap", "p", "regret", "asymmetry"],
        cells,
    )
    yield Fold("Source by source, target by target", [pairs])
    if matrix.notes:
        yield Points([note[:1].upper() + note[1:] + "." for note in matrix.notes])


def _read(matrix: Matrix) -> list[str]:
    """What the matrix says, in sentences."""
    found = []
    own = [pair for pair in matrix.pairs.values() if pair.source == pair.target]
    away = [pair for pair in matrix.pairs.values() if pair.gap is not None and pair.source in matrix.targets]
    if own and away:
        home, abroad = (sum(pair.mean for pair in some) / len(some) for some in (own, away))
        found.append(
            f"At home {100 * home:.1f} points on average, on another {matrix.by} {100 * abroad:.1f}: a gap of "
            f"{100 * (home - abroad):+.1f}."
        )
        found.append(f"Largest gap: {_said(max(away, key=_gap))}. Smallest: {_said(min(away, key=_gap))}.")
    best = min(matrix.sources, key=matrix.regret)
    found.append(f"Least regret over all targets: {best}, {100 * matrix.regret(best):.1f} points on average.")
    if matrix.uneven:
        found.append(matrix.uneven[:1].upper() + matrix.uneven[1:] + ".")
    return found


def _gap(pair: Pair) -> float:
    return pair.gap.value if pair.gap is not None else float("-inf")


def _said(pair: Pair) -> str:
    return f"{pair.source} → {pair.target}, {interval(pair.gap, 100.0)}"


def _ladder(ladder: Ladder) -> Iterable[Block]:
    score = f"{ladder.measure.words}, points"
    yield Heading(f"Adaptation to {ladder.target}")
    yield Text(
        f"The source's network was trained on {', '.join(ladder.sources)}. Every rung is scored on the test ground of "
        f"{ladder.target}, and again on that of its sources, to see what is left."
    )
    said = said_crossings(ladder)
    best = max(ladder.steps[1:], key=lambda step: step.mean, default=None)
    if best is not None:
        said = [
            f"Zero-shot {100 * ladder.zero.mean:.1f} points; best of {len(ladder.steps) - 1} {best.arm}, "
            f"{100 * best.mean:.1f}, which is {interval(best.gain, 100.0)}.",
            *said,
        ]
    said += [
        f"What the target's images add without labels: {rung} against longer, which goes on as long without them, "
        f"{interval(effect, 100.0)}."
        for rung, effect in ladder.of_images.items()
    ]
    yield Points(said)
    curves = {
        rung: {step.budget or 0.0: [100 * value for value in step.values] for step in ladder.curve(rung)}
        for rung in ladder.learning
    }
    if curves:
        going_on = [step for step in ladder.steps[1:] if step.rung in GOING_ON]
        levels = {step.arm: [100 * value for value in step.values] for step in (ladder.zero, *going_on)}
        unit = "training scenes of the target" if ladder.unit == "scenes" else "share of the target's lakes"
        met = {rung: at for rung, at in crossings(ladder).items() if at is not None and at > min(curves[rung])}
        drawn = partial(
            few_shot_figure, curves, levels, unit=unit, score=score, crossings=met,
        )  # fmt: skip
        yield Picture.of(
            "few_shot",
            drawn,
            f"{score} on {ladder.target} by labels of it that are learnt from: means as lines, straight between "
            "budgets, trainings as small marks. Level lines: without labels of it."
            + (" Ringed: where training from scratch catches up." if met else ""),
        )
    rows = [_row(step) for step in ladder.steps]
    level = percent(ladder.level)
    yield Table(
        "ladder",
        f"{score}, means over n trainings. Gain over zero-shot on {many(ladder.clusters, ladder.ground)} of "
        f"{ladder.target} and change on the sources' test ground, with {level} intervals over seeds and "
        f"{ladder.ground}s; p of the gain after Holm. Below 0 at home: forgotten.",
        ["rung", "n", f"on {ladder.target}", "gain", "p", "at home", "change at home", "what it does"],
        rows,
    )


def _row(step: Step) -> list[str]:
    return [
        step.arm,
        f"{len(step.values)}",
        number(step.mean, 100.0),
        interval(step.gain, 100.0),
        p_value(step.p_holm),
        number(sum(step.at_home) / len(step.at_home), 100.0),
        interval(step.kept, 100.0),
        WAYS.get(step.rung, ""),
    ]
