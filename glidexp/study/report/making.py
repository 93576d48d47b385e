"""The report of a study: one HTML page, Markdown, tables for papers and spreadsheets; aggregates for its parent run."""

import errno
import logging
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from glob import escape
from pathlib import Path

from glidexp.beside import PARTIAL, folder_beside
from glidexp.errors import TrackingError
from glidexp.study.comparison.compare import Comparison, sentence
from glidexp.study.comparison.pick import best_tags
from glidexp.study.comparison.studies import Study, load_study
from glidexp.study.execution.ledger import FOLDER
from glidexp.study.execution.parent import NOTE_TAG
from glidexp.study.report.blocks import (
    Block,
    Picture,
    Table,
    Tiles,
    as_csv,
    html,
    markdown,
    unfolded,
)
from glidexp.study.report.cautions import naive
from glidexp.study.report.data import Findings, find
from glidexp.study.report.latex import as_latex
from glidexp.study.report.page import sections
from glidexp.study.report.tiles import probe_tiles
from glidexp.tracking.found import all_parts
from glidexp.tracking.gathered import leave_with_parent
from glidexp.tracking.multirun import comparison_link, ui_hint
from glidexp.tracking.names import part_names
from glidexp.tracking.sink import TAG_LIMIT
from glidexp.tracking.store import Store
from glidexp.wording import many

log = logging.getLogger("glidexp")
REPORT, PAGE, TEXT = "report", "report.html", "report.md"
LINK_TAG = "glidexp.comparison"
FOR_WORDS = 1000
"""characters of the parent's note that stay for question and verdicts beside a link"""


def report(store: Store, parent_run_id: str, *, folder: Path | None = None) -> Path:
    """Writes the report of a study as far as it is, and leaves it with its parent run. A second time replaces it.

    Args:
        store: from `open_store`
        parent_run_id: of the study, or its first characters
        folder: where it is written; `<mlruns>/studies/<study id>/report` when not given

    Returns:
        the HTML page

    Raises:
        TrackingError: no such study, or a folder that cannot be written
    """
    study = load_study(store, parent_run_id)
    if study is None:
        raise TrackingError(f"run {parent_run_id} is no study: give the id of a study's parent run.")
    log.info("The report is made of %s.", many(len(study.trainings), "finished training"))
    found = find(store, study)
    link, hint = _link(store, study), ui_hint(store.uri)
    tiles, about = probe_tiles(store, found.study, study.plan.primary.split("/")[0])
    blocks = sections(found, tiles, about, link, hint)
    tags = _tags(found, link, hint) | best_tags(store, study, found.material)
    folder = folder or store.mlruns / FOLDER / study.study_id / REPORT
    try:
        title = f"Study {study.plan.label}" + f" ({study.study_id})" * study.plan.typed
        page = _written(folder, title, blocks, study.plan.title)
    except OSError as error:
        raise TrackingError(
            f"the report cannot be written to {folder} ({error.strerror}): make room or allow it."
        ) from None
    leave_with_parent(store, study.parent.run_id, aggregates(found), tags, folder)
    if found.comparison is not None:
        log.info("Against the baseline, %s:", found.full[found.comparison.rows[0].arm.name])
        for line in _verdicts(found.comparison, found.full)[1:]:
            log.info("%s", line)
    return page


def _link(store: Store, study: Study) -> str:
    ids = list(dict.fromkeys(study.trained[run.run_id].run_id for arm in study.arms for run in all_parts(arm.runs)))
    return comparison_link(store.uri, study.parent.experiment_id, ids) if len(ids) > 1 else ""


def aggregates(found: Findings) -> dict[str, float]:
    """Metrics of the parent run: `study/<arm>/<score>/mean`, sd, n, and of its difference: value, low, high, p."""
    metrics: dict[str, float] = {}
    parts = part_names(list(found.full.values()))  # of all arms: a name stays when others are finished
    first = [] if found.comparison is None else [found.comparison]
    for comparison in (*first, *found.by_stratum, *found.by_size, *found.also):
        for row in comparison.rows:
            start = f"study/{parts[found.full[row.arm.name]]}/{comparison.measure.name}"
            metrics[f"{start}/mean"] = row.mean
            metrics[f"{start}/n"] = float(len(row.values))
            if len(row.values) > 1:
                metrics[f"{start}/sd"] = row.sd
            if row.effect is not None:
                metrics |= {f"{start}/difference": row.effect.value, f"{start}/low": row.effect.low}
                metrics[f"{start}/high"] = row.effect.high
                if comparison is found.comparison:
                    metrics[f"{start}/p_holm"] = row.p_holm
    return metrics


def _tags(found: Findings, link: str, hint: str) -> dict[str, str]:
    study = found.study
    lines = [study.plan.question, "", f"Report: artifact `{REPORT}/{PAGE}`"]
    if 0 < len(link) < TAG_LIMIT - FOR_WORDS:  # half a link leads nowhere; the report has it whole
        lines += ["", f"[All runs side by side]({link})" + (f" ({hint})" if hint else "")]
    lines.append("")
    if found.comparison is not None:
        lines += _verdicts(found.comparison, found.full)
    lines += [f"- missing: {said}" for said in study.missing]
    return {NOTE_TAG: "\n".join(lines)} | ({LINK_TAG: link} if 0 < len(link) <= TAG_LIMIT else {})


def _verdicts(comparison: Comparison, full: Mapping[str, str]) -> list[str]:
    lines = [f"- {full[row.arm.name]}: {sentence(row, comparison)}" for row in comparison.rows]
    return lines + [f"- {said}" for said in naive(comparison)]


def _written(folder: Path, title: str, blocks: list[Block], study: str) -> Path:
    """Writes all files aside, then puts the folder into place, also where another sweep of the study does just that."""
    earlier = folder.with_name(f".{folder.name}.earlier.{os.getpid()}{PARTIAL}")
    for left in folder.parent.glob(f".{escape(folder.name)}.earlier.*{PARTIAL}"):
        with suppress(OSError):  # of a process that was killed between its renames: better than none until this is done
            left.rename(folder)
    with folder_beside(folder) as aside:
        _fill(aside, title, blocks, study)
        while True:
            with suppress(FileNotFoundError):
                folder.rename(earlier)
            try:
                aside.rename(folder)
                break
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            finally:
                shutil.rmtree(earlier, ignore_errors=True)
    return folder / PAGE


def _fill(aside: Path, title: str, blocks: list[Block], study: str) -> None:
    """Writes page, text, tables and pictures into a new folder."""
    for name in ("figures", "tables", "tiles"):
        (aside / name).mkdir()
    (aside / PAGE).write_text(html(title, blocks), encoding="utf-8")
    (aside / TEXT).write_text(markdown(title, blocks), encoding="utf-8")
    for block in unfolded(blocks):
        if isinstance(block, Table):
            (aside / "tables" / f"{block.name}.csv").write_text(as_csv(block), encoding="utf-8")
            (aside / "tables" / f"{block.name}.tex").write_text(as_latex(block, study), encoding="utf-8")
        if isinstance(block, Picture):
            for name, drawn in block.files.items():
                (aside / "figures" / name).write_bytes(drawn)
        if isinstance(block, Tiles):
            for place, (_, png) in enumerate(block.panels):
                (aside / "tiles" / f"{block.name}_{place:02d}.png").write_bytes(png)
