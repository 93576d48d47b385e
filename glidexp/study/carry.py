"""`glidexp store export` and `import`: a study with its runs to another tracking store.

FOLDER/runs/ID/...                      the runs, see `tracking.carry`
FOLDER/studies/ID/study.json, cells.json, of a search trials.journal
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from glidexp.beside import write_bytes
from glidexp.data.steps import shown_steps
from glidexp.errors import ConfigError
from glidexp.study.comparison.studies import Study, load_study
from glidexp.study.execution.cells import Plan
from glidexp.study.execution.ledger import CELLS, FOLDER, PLAN, Status, known_cells, read_cells, update_cell
from glidexp.study.tune import journal as tune_journal
from glidexp.study.tune.journal import JOURNAL, written
from glidexp.tracking.carry import ABOUT, FILES, RUNS, Carried, read_runs, write_run
from glidexp.tracking.found import finished_runs, tracked_run
from glidexp.tracking.store import KIND_TAG, MODEL_RUN_TAG, STUDY, Store
from glidexp.tracking.study_runs import STUDY_ID_TAG

log = logging.getLogger("glidexp")

FAR = {Status.failed: 1, Status.stopped: 2, Status.finished: 2}
"""how far a cell came; others 0"""


def export(store: Store, references: Sequence[str], folder: Path) -> list[str]:
    """Writes studies, parents with their children, or single runs into a folder. What is there already is kept.

    Args:
        store: from `open_store`
        references: run ids, or a study's folder
        folder: for the export

    Returns:
        ids of the runs that are in it

    Raises:
        ConfigError: the folder holds something else
        TrackingError: no such run, or files that are gone
    """
    if folder.is_dir() and any(folder.iterdir()) and not (folder / RUNS).is_dir():
        raise ConfigError(f"--out {folder} holds something else: give another folder.")
    wanted: dict[str, None] = {}
    studies: list[Study] = []
    for reference in references:  # one that is none must leave nothing in the folder, which would then be refused
        study = load_study(store, reference)
        if study is None:
            parent = tracked_run(store, reference)
            runs, _ = finished_runs(store, [reference])
            wanted |= dict.fromkeys([parent.run_id, *(run.run_id for run in runs)])
            continue
        wanted[study.parent.run_id] = None
        studies.append(study)
        for entry in study.entries.values():
            wanted |= {one: None for one in (entry.train, entry.scored) if one}
    for run_id in list(wanted):  # an evaluation is of little use without its model
        of = tracked_run(store, run_id).tags.get(MODEL_RUN_TAG)
        if of and of not in wanted and store.found(of) is not None:
            wanted[of] = None
    (folder / RUNS).mkdir(parents=True, exist_ok=True)
    for study in studies:
        place = folder / FOLDER / study.study_id
        place.mkdir(parents=True, exist_ok=True)
        write_bytes(place / PLAN, study.plan.public().to_json().encode())
        write_bytes(place / CELLS, (study.folder / CELLS).read_bytes())
        if (study.folder / JOURNAL).is_file():  # without it a search would begin anew
            write_bytes(place / JOURNAL, written(study.folder / JOURNAL))
    with shown_steps(len(wanted), "runs", True, what="export", late=True) as step:
        for run_id in wanted:
            write_run(store, run_id, folder)
            step(run_id[:12])
    return list(wanted)


def bring(store: Store, folder: Path) -> Carried:
    """Brings an export into a store. A second time finds what the first brought, goes on where it was broken off, and
    brings what was finished since; cells that came further in this store keep their lines.

    Args:
        store: from `open_store`
        folder: of the export

    Raises:
        TrackingError: no export there, or the store does not take it
    """
    runs = len(list((folder / RUNS).glob(f"*/{ABOUT}")))
    with shown_steps(runs, "runs", True, what="import", late=True) as step:
        carried = read_runs(store, folder, step)
    for place in sorted((folder / FOLDER).glob(f"*/{CELLS}")):
        there = store.mlruns / FOLDER / place.parent.name
        there.mkdir(parents=True, exist_ok=True)
        exported = (place.parent / PLAN).read_text(encoding="utf-8")
        if _cells_of(there / PLAN) < len(Plan.from_json(exported).cells):
            write_bytes(there / PLAN, exported.encode())
        _bring_cells(place, there / CELLS, carried)
        journal = place.parent / JOURNAL
        if journal.is_file() and not tune_journal.bring(journal.read_bytes(), there / JOURNAL):
            log.warning(
                "The search %s has gone on in this store otherwise than in the export: its own trials are kept.",
                there.name,
            )
        for old, new in carried.runs.items():
            if (folder / RUNS / old / FILES / PLAN).is_file() and _study_of(store, new) == place.parent.name:
                store.client.log_artifact(new, str(there / CELLS))
    return carried


def _cells_of(plan: Path) -> int:
    """How many there are; -1 of a plan that is missing or damaged."""
    try:
        return len(Plan.from_json(plan.read_text(encoding="utf-8")).cells)
    except (OSError, ValueError, KeyError, TypeError):
        return -1


def _bring_cells(exported: Path, there: Path, carried: Carried) -> None:
    """Lines of an export, but for cells that came further in the store where they are brought to."""
    lines = read_cells(exported)
    for name, entry in lines.items():
        train, scored = (carried.runs.get(old or "", old) for old in (entry.train, entry.scored))
        lines[name] = replace(entry, train=train, scored=scored, job="")  # no scheduler there knows that number
    if not there.exists():
        write_bytes(there, json.dumps({name: asdict(line) for name, line in lines.items()}, indent=1).encode())
    for name, before in known_cells(there).items():
        line = lines.get(name, before)
        if line != before and FAR.get(before.status, 0) <= FAR.get(line.status, 0):
            update_cell(there, name, **asdict(line))


def _study_of(store: Store, run_id: str) -> str:
    tags = tracked_run(store, run_id).tags
    return tags.get(STUDY_ID_TAG, "") if tags.get(KIND_TAG) == STUDY else ""
