"""What a person sees of a search: its plan, its trials, and in the end what was repeated and what that shows."""

import csv
import statistics
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from glidexp.beside import beside
from glidexp.config.launcher import LauncherConfig
from glidexp.study.comparison.compare import compare_arms, measure_of, sentence
from glidexp.study.comparison.material import gather
from glidexp.study.comparison.studies import Study
from glidexp.study.plan import cost as plan_cost
from glidexp.study.plan.budget import Spent
from glidexp.study.plan.hours import about, places_of
from glidexp.study.plan.show import History, speeds_of
from glidexp.study.tune.search import Tuning
from glidexp.study.tune.trials import Trial
from glidexp.tracking.store import Store
from glidexp.wording import many

TRIALS, LAST_WORD = "trials.csv", "search.md"
ENDS = {"complete": "", "pruned": "ended early", "fail": "failed", "running": "not ended"}


def show_plan(found: Tuning, launcher: LauncherConfig) -> None:
    """Prints the plan of a search: what may be chosen, when trials are ended, and hours.

    Args:
        found: the search, checked
        launcher: tells how many runs go at once
    """
    console, study, cfg = Console(), found.study, found.study.tune
    arms = 1 + cfg.repeat
    lines = [
        study.question,
        f"{study.name}: {many(cfg.trials, 'trial')}, then {arms} x {many(len(found.seeds), 'run')}",
    ]
    lines += [f"  {choice.told}" for choice in found.space.values()]
    lines.append(
        f"Budget: {many(found.epochs, 'epoch')} a trial"
        + (
            f"; at {' and '.join(map(str, found.rungs))} epoch{'s' * (found.rungs != [1])} one in {cfg.factor} goes on."
            if found.rungs
            else ", none is ended early."
        )
    )
    what = ", then ".join(cfg.objectives)
    lines.append(f"Searched for: {what}, with seed {cfg.seed}; {many(cfg.startup, 'trial')} at random first.")
    if cfg.repeat:
        lines.append(
            f"Repeated: the best {cfg.repeat}, beside the settings it begins from, with seeds "
            f"{', '.join(map(str, found.seeds))}. Decided by {study.primary}."
        )
    lines.append(_hours(found, launcher))
    for line in lines:
        console.print(line, highlight=False, markup=False)


def expected_epochs(rungs: Sequence[int], factor: int, epochs: int) -> float:
    """Epochs of a trial on average, where one in `factor` goes on at each rung."""
    ends = [0, *rungs, epochs]
    return sum((after - before) / factor**place for place, (before, after) in enumerate(pairwise(ends)))


def _hours(found: Tuning, launcher: LauncherConfig) -> str:
    edges, cfg = found.edges, found.study.tune
    history = History(edges)
    places, threads = places_of(launcher, cfg.trials, edges.baseline)
    speeds = [one for one in speeds_of(edges, history, threads, calibrate=not launcher.elsewhere) if one is not None]
    if not speeds:
        return "Time: not known before some runs are finished, which are carried out on other machines than this one."
    size, batch = edges.sizes[0], edges.baseline.train.batch_tiles
    full = statistics.mean(plan_cost.seconds(one, Spent(found.epochs, 0, 0), size, batch) for one in speeds)
    none = statistics.mean(one.ends_s for one in speeds)
    share = expected_epochs(found.rungs, cfg.factor, found.epochs) / found.epochs
    after = (1 + cfg.repeat) * len(found.seeds) * full if cfg.repeat else 0.0
    early, late = ((cfg.trials * (none + (full - none) * part) + after) / places / 3600 for part in (share, 1.0))
    text = f"Time: {about(late)}"
    if found.rungs:
        text = f"Time: {about(early)} where one in {cfg.factor} goes on at each rung, {about(late)} where all do"
    assumed = "; begin and end of a run are assumed" * any(one.ends_assumed for one in speeds)
    return f"{text}, {many(places, 'run')} at once; the mean over the ends of the space{assumed}."


def show_trials(found: Tuning, trials: Sequence[Trial]) -> None:
    """Prints all trials, the best by the first objective first."""
    console, cfg = Console(), found.study.tune
    asked_for = sum(not trial.again for trial in trials)  # of one that was tried again the second is counted
    title = f"{found.study.name}: {asked_for} of {many(cfg.trials, 'trial')}"
    table = Table(title=escape(title), title_justify="left")
    table.add_column("trial", justify="right")
    for name in cfg.objectives:
        table.add_column(name, justify="right")
    table.add_column("settings", overflow="fold")
    table.add_column("end", overflow="fold")
    for trial in sorted(trials, key=_rank):
        values = [f"{value:.4g}" for value in trial.values] or [_at_rung(trial), *[""] * (len(cfg.objectives) - 1)]
        end = f"failed: {trial.error}" if trial.state == "fail" else ENDS[trial.state]
        table.add_row(f"{trial.number:02}", *values, Text(" ".join(trial.words)), Text(end))
    console.print(table)


def _rank(trial: Trial) -> tuple[int, float, int]:
    place = ["complete", "pruned", "running", "fail"].index(trial.state)
    return place, -(trial.values[0] if trial.values else max(trial.rungs, default=0)), trial.number


def _at_rung(trial: Trial) -> str:
    if not trial.rungs:
        return ""
    epochs = max(trial.rungs)
    return f"{trial.rungs[epochs][0]:.4g} at {epochs}"


def write_trials(found: Tuning, trials: Sequence[Trial], folder: Path) -> Path:
    """All trials as a table, in order."""
    path, cfg = folder / TRIALS, found.study.tune
    keys = list(found.space)
    rungs = [f"{cfg.objectives[0]} at {many(epochs, 'epoch')}" for epochs in found.rungs]
    with beside(path) as place, place.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(["trial", "state", *cfg.objectives, *rungs, *keys, "error"])
        for trial in trials:
            chosen = dict(word.split("=", 1) for word in trial.words)
            values = trial.values or [""] * len(cfg.objectives)
            at = [trial.rungs[epochs][0] if epochs in trial.rungs else "" for epochs in found.rungs]
            settings = [chosen.get(key, "") for key in keys]
            table.writerow([trial.number, trial.state, *values, *at, *settings, trial.error])
    return path


def nothing_claimed(found: Tuning) -> str:
    """What is said where nothing is repeated."""
    if not found.study.tune.repeat:
        return "Nothing is claimed: the best score of a search is the luckiest of many, and none was repeated."
    return "Nothing is claimed: the search found nothing better than the settings it began from."


def last_word(found: Tuning, best: Sequence[Trial], trials: Sequence[Trial], study: Study, store: Store) -> str:
    """What was found, what its repetition gave, and what may be said of it, as Markdown.

    Args:
        found: the search
        best: that were repeated
        trials: all
        study: the repetition
        store: where its runs are
    """
    cfg, measure = found.study.tune, measure_of(found.study.primary)
    done = sum(one.state == "complete" for one in trials)
    early = sum(one.state == "pruned" for one in trials)
    out = [f"{many(len(trials), 'trial')}, {done} to their end, {early} ended early; seed {cfg.seed}.", ""]
    seeds = f"{study.plan.primary}, mean (SD)"
    out += [f"| arm | {' | '.join(f'{name} in the search' for name in cfg.objectives)} | {seeds} | seeds | settings |"]
    out += ["|---" * (4 + len(cfg.objectives)) + "|"]
    searched = dict(zip(study.plan.arms[1:], best, strict=True))
    runs = {arm.name: arm.runs for arm in study.arms}
    for arm in study.plan.arms:
        trial = searched.get(arm)
        values = [f"{value:.4g}" for value in trial.values] if trial else [""] * len(cfg.objectives)
        scores = [run.metrics[study.plan.primary] for run in runs.get(arm, ()) if study.plan.primary in run.metrics]
        mean = f"{statistics.mean(scores):.4f}" if scores else ""
        mean += f" ({statistics.stdev(scores):.4f})" if len(scores) > 1 else ""
        words = " ".join(trial.words) if trial else "as they were"
        out.append(f"| {arm} | {' | '.join(values)} | {mean} | {len(scores)} | {words} |")
    out += [
        "",
        "The score in the search is the best of many with one seed each: no estimate of what the settings give.",
    ]
    if study.arms and study.arms[0].name != study.plan.arms[0]:
        out.append("The settings it began from have no finished run, so that nothing can be claimed.")
    elif len(study.arms) > 1:
        material = gather(store, [run for arm in study.arms for run in arm.runs], measure.split, lakes=measure.of_lakes)
        comparison = compare_arms(study.arms, material, measure, level=1 - study.plan.alpha, ranks=False)
        out += [
            f"{row.arm.name.capitalize()}, against the settings it began from: {sentence(row, comparison)}."
            for row in comparison.rows[1:]
        ]
    few = min((len(arm.runs) for arm in study.arms), default=0)
    if few < 2:
        out.append("With fewer than two seeds an arm nothing can be claimed.")
    return "\n".join(out) + "\n"
