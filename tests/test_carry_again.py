"""A second export of what went on, and its import into a store that knows the first."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from glidexp.study import carry
from glidexp.study.execution.cells import Cell, Plan
from glidexp.study.execution.ledger import CELLS, FOLDER, Entry, Ledger, Status, read_cells, update_cell
from glidexp.tracking.carry import read_runs, write_run
from glidexp.tracking.carry_versions import FROM_TAG
from glidexp.tracking.liveness import marks
from glidexp.tracking.models import MODEL_ID, fetch, find_model
from glidexp.tracking.registry import CHAMPION, holder, make_name
from glidexp.tracking.sink import ERROR_TAG
from glidexp.tracking.store import ID_TAG, KIND_TAG, STUDY, Store, open_store
from glidexp.tracking.study_runs import BEST_TAG, STUDY_ID_TAG, STUDY_TAG

SCORE = "test/lake_iou_pooled"


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new database, which takes seconds to make."""
    mlruns = tmp_path_factory.mktemp("empty")
    open_store(f"sqlite:///{mlruns}/mlflow.db", mlruns)
    return mlruns / "mlflow.db"


@pytest.fixture
def here(database: Path, tmp_path: Path) -> Store:
    return opened(database, tmp_path / "here")


@pytest.fixture
def there(database: Path, tmp_path: Path) -> Store:
    return opened(database, tmp_path / "there")


def opened(database: Path, mlruns: Path) -> Store:
    mlruns.mkdir()
    (mlruns / "mlflow.db").write_bytes(database.read_bytes())
    return open_store(f"sqlite:///{mlruns}/mlflow.db", mlruns)


def begun(store: Store, key: str, parent: str | None = None, **tags: str) -> str:
    tags |= {ID_TAG: key} | ({"mlflow.parentRunId": parent} if parent else {})
    return str(store.client.create_run(store.experiment_id("glidexp"), tags=tags, run_name=key).info.run_id)


def ended(store: Store, run_id: str, status: str, score: float, step: int) -> None:
    store.client.log_metric(run_id, SCORE, score, step=step)
    if status == "FINISHED":
        store.client.log_text(run_id, "rows", "scores.txt")
    store.client.set_terminated(run_id, status)


def copy_of(store: Store, run_id: str) -> str:
    wanted = f"tags.`{FROM_TAG}` = '{run_id}'"
    (found,) = store.client.search_runs([store.experiment_id("glidexp")], wanted)
    return str(found.info.run_id)


def study(store: Store) -> tuple[Ledger, str, dict[str, str]]:
    """One of three cells: one is finished, one was killed, one has failed."""
    cells = tuple(Cell(arm, 0, ("train.epochs=2",), key=f"key-{arm}") for arm in "abc")
    ledger = Ledger(Plan("s", "?", SCORE, tuple("abc"), (0,), cells), store, "glidexp")
    ledger.begin()
    parent = begun(store, "", **{KIND_TAG: STUDY, STUDY_TAG: "s", STUDY_ID_TAG: ledger.study_id})
    store.client.log_artifact(parent, str(ledger.folder / "study.json"))
    runs = {cell.arm: begun(store, cell.key, parent) for cell in cells}
    for cell, status in zip(cells, ("FINISHED", "KILLED", "FAILED"), strict=True):
        ended(store, runs[cell.arm], status, 0.5, 1)
        ledger.update(cell, status=Status(status.lower()), train=runs[cell.arm], job="77")
    store.client.set_tag(runs["c"], ERROR_TAG, "disk full")
    store.client.set_terminated(parent, "KILLED")
    return ledger, parent, runs


def test_what_was_finished_since_an_export_is_brought_by_the_next(here: Store, there: Store, tmp_path: Path) -> None:
    ledger, parent, runs = study(here)
    carry.export(here, [parent], tmp_path / "out")
    carry.bring(there, tmp_path / "out")
    kept = copy_of(there, runs["a"])
    files = tmp_path / "out" / "runs" / runs["a"]
    before = files.stat().st_ino
    for cell in ledger.plan.cells[1:]:
        ended(here, runs[cell.arm], "FINISHED", 0.7, 2)
        ledger.update(cell, status=Status.finished, score=0.7, job="")
    here.client.delete_tag(runs["c"], ERROR_TAG)
    here.client.set_tag(parent, BEST_TAG, "key-b")
    here.client.set_terminated(parent, "FINISHED")
    carry.export(here, [parent], tmp_path / "out")
    assert files.stat().st_ino == before, "a run that has not changed was written again"
    for _ in range(2):
        carry.bring(there, tmp_path / "out")
        new = copy_of(there, parent)
        above = there.client.get_run(new)
        assert above.info.status == "FINISHED" and above.data.tags[BEST_TAG] == "key-b"
        for arm, old in runs.items():
            copied = there.client.get_run(copy_of(there, old))
            assert copied.info.status == "FINISHED" and ERROR_TAG not in copied.data.tags
            assert copied.data.metrics == here.client.get_run(old).data.metrics, arm
            assert [file.path for file in there.client.list_artifacts(copied.info.run_id)] == ["scores.txt"]
            assert copied.data.tags["mlflow.parentRunId"] == new
        lines = read_cells(there.mlruns / FOLDER / ledger.study_id / CELLS)
        assert {name: line.train for name, line in lines.items()} == {
            f"{arm}|0": copy_of(there, old) for arm, old in runs.items()
        }
        assert {line.status for line in lines.values()} == {Status.finished} and not any(
            line.job for line in lines.values()
        )
    assert copy_of(there, runs["a"]) == kept


def test_what_went_on_in_the_other_store_is_not_set_back(here: Store, there: Store, tmp_path: Path) -> None:
    ledger, parent, runs = study(here)
    carry.export(here, [parent], tmp_path / "out")
    carry.bring(there, tmp_path / "out")
    path = there.mlruns / FOLDER / ledger.study_id / CELLS
    own = copy_of(there, runs["b"])
    for key, value in marks().items():
        there.client.set_tag(own, key, value)
    ended(there, own, "FINISHED", 0.6, 2)
    update_cell(path, "b|0", status=Status.finished, score=0.6)
    update_cell(path, "a|0", status=Status.killed)  # which the store knows better
    carry.bring(there, tmp_path / "out")
    lines = read_cells(path)
    assert [lines[f"{arm}|0"].status for arm in "abc"] == [Status.finished, Status.finished, Status.failed]
    assert lines["b|0"].score == 0.6 and lines["b|0"].train == own
    other = copy_of(there, runs["c"])
    for key, value in marks().items():
        there.client.set_tag(other, key, value)  # at work, or ended there
    ended(here, runs["c"], "FINISHED", 0.7, 2)
    carry.export(here, [parent], tmp_path / "out")
    carry.bring(there, tmp_path / "out")
    assert copy_of(there, runs["c"]) == other and there.client.get_run(other).info.status == "FAILED"


def test_a_plan_that_has_grown_in_the_other_store_keeps_its_cells(here: Store, there: Store, tmp_path: Path) -> None:
    ledger, parent, _ = study(here)
    carry.export(here, [parent], tmp_path / "out")
    carry.bring(there, tmp_path / "out")
    folder = there.mlruns / FOLDER / ledger.study_id
    plan = Plan.from_json((folder / "study.json").read_text())
    more = Cell("d", 0, ("train.epochs=2",), key="key-d")
    grown = replace(plan, arms=(*plan.arms, "d"), cells=(*plan.cells, more))
    (folder / "study.json").write_text(grown.to_json())
    update_cell(folder / CELLS, more.name, **asdict(Entry(status=Status.stopped)))
    carry.bring(there, tmp_path / "out")
    assert len(Plan.from_json((folder / "study.json").read_text()).cells) == 4
    assert read_cells(folder / CELLS)["d|0"].status is Status.stopped
    (folder / "study.json").write_text("{torn")
    carry.bring(there, tmp_path / "out")
    assert len(Plan.from_json((folder / "study.json").read_text()).cells) == 3


def test_a_run_that_is_there_gets_the_versions_that_were_made_since(here: Store, there: Store, tmp_path: Path) -> None:
    run = begun(here, "key")
    ended(here, run, "FINISHED", 0.5, 1)
    write_run(here, run, tmp_path / "out")
    read_runs(there, tmp_path / "out")
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "card.json").write_text("{}")
    made = here.client.create_logged_model(here.experiment_id("glidexp"), name="release", source_run_id=run)
    here.client.log_model_artifacts(made.model_id, str(bundle))
    here.client.finalize_logged_model(made.model_id, "READY")
    make_name(here.client, "lakes")
    here.client.create_model_version(
        "lakes", made.artifact_location, run, tags={MODEL_ID: made.model_id}, model_id=made.model_id
    )
    here.client.set_registered_model_alias("lakes", CHAMPION, "1")
    write_run(here, run, tmp_path / "out")
    for _ in range(2):
        carried = read_runs(there, tmp_path / "out")
        assert carried.found == 1 and carried.versions == ["version 1 of lakes is version 1"]
        champion = holder(there, "lakes")
        assert champion is not None and champion.run_id == copy_of(there, run)
        model = find_model(there, champion.uri)
        assert (fetch(there, model, tmp_path / "fetched") / "card.json").is_file()
        assert len(there.client.search_logged_models([there.experiment_id("glidexp")])) == 1
