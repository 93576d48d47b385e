"""The release of one training: score it again, look at it from every side, and only then let it be the champion."""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from glidexp.beside import lock, write_bytes
from glidexp.data.builder.parts import writing
from glidexp.data.steps import shown_stage
from glidexp.errors import ConfigError, DataError, GlidexpError
from glidexp.models.card import read_card
from glidexp.models.load import find
from glidexp.options import out_folder
from glidexp.release import bundle as release_bundle
from glidexp.release import card_page, checks_champion, checks_scores, stac_mlm
from glidexp.release.again import Place, Rescored, ground_of, score_again
from glidexp.release.agreement import card_sizes, onnx_agrees, program_agrees, weights_agree
from glidexp.release.card_scores import rows_of
from glidexp.release.no_pickle import loads_afresh, no_pickle
from glidexp.release.report import Check, Report, judged, made
from glidexp.study.comparison.compare import Measure
from glidexp.study.comparison.material import gather
from glidexp.study.comparison.pick import Choice
from glidexp.tracking.gathered import energy
from glidexp.tracking.left import close_ended
from glidexp.tracking.registry import Version, holder
from glidexp.tracking.store import EVALUATION, KIND_TAG, Store
from glidexp.training.record import requirements
from glidexp.wording import many

ANEW = "the same command makes the bundle anew"


@dataclass(kw_only=True, slots=True)
class Terms:
    """What a release must hold to."""

    name: str
    measure: Measure
    license: str = ""
    citation: str = ""
    margin: float = 0.02
    """largest loss in a region or sensor, 0-1"""
    calibration: float = 0.05
    """largest expected calibration error, 0-1"""
    force: bool = False


@dataclass(slots=True)
class Gated:
    """A finished bundle and what the gate says of it."""

    folder: Path
    report: Report
    against: Version | None
    requirements: list[str] = field(default_factory=list)


def gate(store: Store, choice: Choice, terms: Terms, place: Place, folder: Path) -> Gated:
    """Makes the bundle of a training and checks it. Moves nothing in the registry.

    Args:
        store: holds the run
        choice: the training, and why it was chosen
        terms: what it must hold to
        place: where data lie
        folder: for the bundle; replaced where it holds an earlier one of this training

    Raises:
        ConfigError: the folder holds something else, or the training is the champion already
        GlidexpError: model or data cannot be used
    """
    champion = holder(store, terms.name)
    with _alone(folder) as aside:
        if folder.exists() and not _earlier(folder, choice.run.run_id):
            raise ConfigError(f"--out {folder} exists and is no bundle of this training: give another folder.")
        with tempfile.TemporaryDirectory(prefix="glidexp-model-") as fetched:
            own = find(choice.run.run_id, store, Path(fetched))
            _refuse_same(store, own.card, champion, Path(fetched) / "champion")
            close_ended(store, f"tags.`{KIND_TAG}` = '{EVALUATION}'")  # of a gate that was killed, which begins anew
            ground = ground_of(store, choice.scored, Path(fetched) / "ground")
            again = score_again(choice.run.run_id, place, ground=ground)
            more = {"name": terms.name, "license": terms.license, "citation": terms.citation}
            stated = {key: value for key, value in more.items() if value}
            with writing(folder, ANEW):
                release_bundle.draft(aside, own.bundle, stated, again.tiles, again.rows)
        with writing(folder, ANEW):
            release_bundle.add_of_run(aside, store, choice.run)
        checks = [*_of_scores(choice, again, terms), *_of_champion(store, again, champion, terms, place)]
        checks += _of_files(aside)
        report = Report(
            choice.run.run_id, choice.sentence, champion.uri if champion else "", tuple(checks), forced=terms.force
        )
        with writing(folder, ANEW):
            with shown_stage("bundle: model card, web page, STAC item"):
                _pages(aside, store, choice, again, report, terms)
            with shown_stage("bundle: sha256 of all files"):
                release_bundle.seal(aside, report)
            _exchange(aside, folder)
    return Gated(folder, report, champion, requirements())


@contextmanager
def _alone(folder: Path) -> Iterator[Path]:
    """A new folder beside another, to be renamed into its place, for one process at a time; gone after an error.

    Raises:
        ConfigError: another process is at work in it, or it cannot be made
    """
    aside = folder.with_name(f".{folder.name}.partial")
    with out_folder(folder), ExitStack() as locked:
        aside.mkdir(parents=True, exist_ok=True)
        handle = os.open(aside, os.O_RDONLY)
        locked.callback(os.close, handle)
        if not lock(handle, aside, wait=False):
            raise ConfigError(f"--out={folder} is being made by another process: wait for it, or give another folder.")
        for left in aside.iterdir():  # of a process that was killed
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        if (before := _before(folder)).is_dir():  # by one that was killed as it renamed
            shutil.rmtree(before) if folder.exists() else before.rename(folder)
        held = locked.pop_all()
    with held:
        try:
            yield aside
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise


def _exchange(aside: Path, folder: Path) -> None:
    """Puts a finished bundle in the place of an earlier one, which is whole until it is out of the way."""
    before = _before(folder)
    if folder.exists():
        folder.rename(before)
    aside.rename(folder)
    shutil.rmtree(before, ignore_errors=True)


def _before(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.before")


def _of_scores(choice: Choice, again: Rescored, terms: Terms) -> list[Check]:
    scores = again.run.metrics
    return [
        checks_scores.repeated(choice.scored.metrics, scores),
        checks_scores.clean_ground(scores, again.run.tags),
        checks_scores.beats_naive(scores, terms.measure),
        checks_scores.calibrated(scores, terms.calibration),
    ]


def _of_champion(
    store: Store, again: Rescored, champion: Version | None, terms: Terms, place: Place
) -> Sequence[Check]:
    if champion is None:
        return checks_champion.without_champion(terms.name)
    try:
        theirs = score_again(champion.uri, place, ground=again.config)
        with shown_stage(f"check: against {champion.uri}, the champion"):
            both = checks_champion.pair(store, again, theirs, champion.uri, terms.measure)
            return (
                checks_champion.beats(both, terms.measure, champion.uri),
                checks_champion.no_stratum_worse(both, terms.measure, terms.margin),
            )
    except (ConfigError, DataError) as error:  # such as a tile that it does not take, or a band that is not there
        return checks_champion.not_comparable(error)


def _of_files(folder: Path) -> list[Check]:
    card = read_card(folder)
    sizes = card_sizes(card)
    files = {
        "no pickle in any file": lambda: no_pickle(folder),
        "a fresh process": lambda: loads_afresh(folder),
        "answers of the weights": lambda: weights_agree(folder),
        "answers of ONNX": lambda: onnx_agrees(folder),
        "answers of torch.export": lambda: program_agrees(folder, sizes),
    }
    return [
        *made(files),
        _stated(card, "license", "--license, an SPDX identifier such as CC-BY-4.0"),
        _stated(card, "citation", "--citation, how the model is to be cited"),
    ]


def _stated(card: dict[str, Any], key: str, option: str) -> Check:
    """Whether the card names licence or citation."""
    value = str(card.get(key) or "").strip()
    return judged(
        f"{key}_present", bool(value), f"{key}: {value.rstrip('.')}." if value else f"no {key}: give {option}."
    )


def _earlier(folder: Path, run_id: str) -> bool:
    """Whether it holds a bundle of this training, which was refused or overtaken and is made anew."""
    try:
        report = json.loads((folder / release_bundle.REPORT).read_text(encoding="utf-8"))
        return (folder / release_bundle.SUMS).is_file() and report["run_id"] == run_id
    except (OSError, ValueError, TypeError, KeyError):
        return False


def _refuse_same(store: Store, card: dict[str, Any], champion: Version | None, fetched: Path) -> None:
    if champion is None:
        return
    try:
        theirs = find(champion.uri, store, fetched).card["weights"]["sha256"]
    except GlidexpError as error:
        raise DataError(
            f"{champion.uri}, the champion, cannot be compared with: {error} Or give the alias champion to another "
            "version, in MLflow's pages (glidexp ui) or by --rollback."
        ) from None
    if theirs == card["weights"]["sha256"]:
        raise ConfigError(f"{champion.uri} is the champion already, with these very weights: there is nothing to do.")


def _pages(folder: Path, store: Store, choice: Choice, again: Rescored, report: Report, terms: Terms) -> None:
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    try:
        material = gather(store, [again.run], "test", lakes=True)
    except GlidexpError:
        if terms.measure.of_lakes:
            raise
        material = gather(store, [again.run], "test")
    tags = choice.run.tags
    cost = card_page.Cost(
        hours=choice.run.hours,
        breaks=int(tags.get("glidexp.resumes", "0")),
        kwh=energy(store, choice.run),
        device=tags.get("glidexp.device", "an unnamed device"),
    )
    text = card_page.markdown_of(
        folder,
        terms.name,
        report=report,
        scores=rows_of(again.run, material, terms.measure),
        settings=choice.run.params,
        cost=cost,
        ground=f"{many(len(again.rows), 'tile')} of {again.tiles.tile_px} px of data set `{again.config.dataset.name}`"
        + (f" ({material.ground.caveat})" if material.ground.caveat else ""),
        created=created,
    )
    write_bytes(folder / card_page.PAGE, text.encode())
    write_bytes(folder / card_page.WEB, card_page.html_of(text, folder, terms.name).encode())
    release_bundle.write_json(folder / stac_mlm.ITEM, stac_mlm.item_of(folder, terms.name, created))
