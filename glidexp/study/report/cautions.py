"""What cannot be concluded from a study."""

from collections.abc import Iterable, Sequence

from glidexp.scoring.naive import ROWS
from glidexp.study.comparison.compare import FEW, Comparison, Row, verdict
from glidexp.study.comparison.studies import Study
from glidexp.study.names import those
from glidexp.wording import decimals, does, many

LISTED = 3
"""arms that a caution gives numbers of; of more the tables have them"""


def cautions(study: Study, comparison: Comparison | None) -> Iterable[str]:
    """Sentences, each once, with the arms that it holds for.

    Args:
        study: by the short names of its arms
        comparison: by the primary score; None where there is none
    """
    if study.missing:
        yield (
            f"{len(study.missing)} of {many(len(study.entries), 'run')} {does(len(study.missing), 'are')} "
            "missing; what they would have shown is not known."
        )
    for tag, what in (("mlflow.source.git.commit", "commit"), ("glidexp.device", "device")):
        if len(study.said_of(tag)) > 1:
            yield f"Not all runs were made with the same {what}; see What ran on what."
    if study.said_of("glidexp.git_dirty").get("true"):
        yield "Some runs were made with uncommitted changes; their diff is among their artifacts."
    yield from (f"LEAKING: {sentence}" for sentence in study.plan.leaks)
    by_runs: dict[tuple[str, ...], list[str]] = {}
    for arm in study.arms:
        by_runs.setdefault(tuple(run.run_id for run in arm.runs), []).append(arm.name)
    for names in by_runs.values():
        if len(names) > 1:
            yield f"{' and '.join(names)} have the same settings: they are the same runs under several names."
    if comparison is None:
        return
    rows = [row for row in comparison.rows[1:] if verdict(row, comparison).startswith("not distinguishable")]
    if rows:
        yield undecided(rows, comparison)
    ground = f"{comparison.ground.kind}s"
    if comparison.clusters < FEW:
        yield f"{comparison.clusters} {ground} are few: whether other ground would say the same is hardly known."
    yield from (_sentence(note, comparison) for note in comparison.notes)
    yield (
        "Scores by sensor, region and size class, and other scores than the primary one, are for looking: their "
        "intervals are not adjusted for being many."
    )
    budget = study.plan.budget.removeprefix("Budget: ").rstrip(".")
    held = f"this budget ({budget})" if budget else "the training budget of this study"
    yield f"All of this holds for this data, these settings and {held}; what a longer training does is not shown."


def naive(comparison: Comparison) -> Iterable[str]:
    """The arms that no naive row is behind: said beside the verdicts, as "better" may still be worse than that."""
    measure, every = comparison.measure, [row.arm.name for row in comparison.rows]
    for name, value in comparison.naive.items():
        behind = [row.arm.name for row in comparison.rows if measure.better * (row.mean - value) <= 0]
        if behind and measure.better:
            said = f"no better than the naive row {ROWS[name]} ({measure.scale * value:.1f} {measure.unit})"
            yield _sentence(f"{those(behind, every)}: on average {said}", comparison)


def _sentence(note: str, comparison: Comparison) -> str:
    names = tuple(row.arm.name + mark for row in comparison.rows for mark in (":", ","))  # which stay as they are typed
    return (note if note.startswith(names) else note[:1].upper() + note[1:]) + "."


def undecided(rows: Sequence[Row], comparison: Comparison) -> str:
    """What it means of some arms that they cannot be told from the baseline."""
    measure, every = comparison.measure, [row.arm.name for row in comparison.rows[1:]]
    who = those([row.arm.name for row in rows], every)
    said = _sentence(f"{who}: cannot be told from the baseline, which is no proof that they are equal", comparison)
    known = [(row, row.effect) for row in rows if row.effect is not None and row.effect.known]
    if not known:
        return said
    digits = decimals(*(measure.scale * end for _, effect in known for end in (effect.low, effect.high)), least=1)
    seen = "; ".join(
        f"{row.arm.name} {measure.scale * effect.low:+.{digits}f} to {measure.scale * effect.high:+.{digits}f}"
        for row, effect in known
    )
    said += (
        f" Differences [{measure.unit}] that are compatible with what was seen: {seen}."
        if len(known) <= LISTED
        else " Which differences are compatible with what was seen is in the first table."
    )
    return f"{said} {power([measure.scale * row.detectable for row, _ in known], measure.unit)}"


def power(least: list[float], unit: str) -> str:
    """What differences a design finds, from the smallest one of each arm; on a scale of 100 points some of none."""
    found = sorted(value for value in least if unit != "points" or value <= 100)
    if not found:
        return "With 80 % power after Holm this design finds no difference that there can be."
    least_of, most_of = (f"{value:.{decimals(found[0], least=1)}f}" for value in (found[0], found[-1]))
    said = least_of + (f" to {most_of}" if least_of != most_of else "")
    none = ", and for some arms none that there can be" * (len(found) < len(least))
    by_arm = ", by arm," * (" to " in said)
    return f"With 80 % power after Holm this design finds differences of {said} {unit}{by_arm} or more{none}."
