"""`glidexp release`: what it takes, and what it prints."""

import re
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from glidexp.errors import ConfigError
from glidexp.options import Parser, above_0, data_option, store_options

if TYPE_CHECKING:
    from glidexp.release.gate import Gated
    from glidexp.study.comparison.pick import Choice
    from glidexp.tracking.store import Store

NAME = r"[A-Za-z](?:[A-Za-z0-9_.-]{0,98}[A-Za-z0-9])?"


def options() -> Parser:
    """What the verb takes."""
    parser = Parser(
        prog="glidexp release",
        description="Releases the best of some trainings: checks it from every side, writes a bundle that others can "
        "use, and makes it models:/NAME@champion. Exit code 1: the gate refused it, or another release was first.",
    )
    parser.add_argument(
        "runs",
        metavar="RUN",
        nargs="*",
        help="run ids, or their first characters; a study, by its id, its run or its folder, stands for its arms",
    )
    parser.add_argument("--name", required=True, help="of the registered model, such as glacial-lakes")
    parser.add_argument("--rollback", action="store_true", help="make the previous champion the champion again")
    parser.add_argument(
        "--score", help="what decides, a score of test (default: the study's own, else test/lake_iou_pooled)"
    )
    parser.add_argument("--max-parameters", type=above_0, metavar="N", help="leave larger networks out, such as 30e6")
    parser.add_argument(
        "--min-speed", type=above_0, metavar="X", help="leave slower ones out, training images a second"
    )
    parser.add_argument("--license", default="", help="of the weights, an SPDX identifier such as CC-BY-4.0")
    parser.add_argument("--citation", default="", help="how the model is to be cited")
    parser.add_argument("--margin", type=float, default=0.02, help="a region or sensor may lose this (default: 0.02)")
    parser.add_argument("--ece", type=float, default=0.05, help="largest calibration error (default: 0.05)")
    parser.add_argument("--force", action="store_true", help="release although a check fails; recorded in the tags")
    parser.add_argument("--out", metavar="FOLDER", help="of the bundle (default: releases/NAME-RUN)")
    data_option(parser)
    store_options(parser)
    parser.add_argument("--device", default="auto", help="on which it is scored again, as train.device (default: auto)")
    return parser


def run(argv: list[str]) -> int:
    """Releases or rolls back; gives the exit code."""
    given = options().parse_args(argv)
    _check(given)
    from glidexp.tracking.store import store_at

    store = store_at(given.mlruns, given.uri)
    return _roll_back(store, given.name) if given.rollback else _release(store, given)


def _check(given: Namespace) -> None:
    """Refuses words that cannot be, before anything is read.

    Raises:
        ConfigError: which, and what is allowed
    """
    if not re.fullmatch(NAME, given.name):
        raise ConfigError(
            f"--name {given.name[:100]}: give 1 to 100 of A-Z, a-z, 0-9, '-', '_', '.', first a letter, last no sign."
        )
    for option, value in (("--margin", given.margin), ("--ece", given.ece)):
        if not 0 <= value <= 1:
            raise ConfigError(f"{option} {value} is outside 0 to 1: give a share such as 0.02.")
    if given.rollback == bool(given.runs):
        raise ConfigError("give runs or a study to release, or --rollback alone.")
    stated = {"--license": (given.license, "of the weights, such as CC-BY-4.0")}
    stated["--citation"] = (given.citation, "how the model is to be cited")
    missing = [f"{option} ({what})" for option, (value, what) in stated.items() if not value.strip()]
    if given.runs and missing and not given.force:  # the gate would say so after minutes
        raise ConfigError(
            f"the gate would refuse a release without {' and '.join(missing)}: give it, or release it all the same "
            "with --force."
        )


def _roll_back(store: "Store", name: str) -> int:
    from glidexp.tracking.registry import rollback

    now, before = rollback(store, name)
    was = f"version {before.number} is @previous" if before else "the one after it was deleted"
    print(f"models:/{name}@champion is version {now.number} again; {was}.")
    return 0


def _release(store: "Store", given: Namespace) -> int:
    """Chooses, checks, and publishes what passes."""
    from glidexp.config.training import Precision
    from glidexp.release.again import Place
    from glidexp.release.gate import Terms, gate
    from glidexp.release.verb_verify import say
    from glidexp.study.comparison.pick import Limits, deciding, field_of, pick
    from glidexp.tracking.found import experiment_of
    from glidexp.tracking.registry import finished_after_kill

    if given.score:
        deciding(given.score)  # before anything is read
    field = field_of(store, given.runs)
    measure = deciding(given.score or field.primary)
    for sentence in field.left:
        print(f"note: {sentence}")
    choice = pick(store, field, measure, Limits(given.max_parameters, given.min_speed))
    print(f"Chosen: {choice.sentence}")
    if done := finished_after_kill(store, given.name, choice.run.run_id):
        print(f"Released: models:/{given.name}@champion is version {done.number}; the command before was killed after.")
        return 0
    terms = Terms(
        name=given.name,
        measure=measure,
        license=given.license,
        citation=given.citation,
        margin=given.margin,
        calibration=given.ece,
        force=given.force,
    )
    precision = Precision(choice.scored.tags.get("glidexp.train.precision", "auto"))
    place = Place(store, Path(given.data), experiment_of(store, choice.run), precision, given.device)
    folder = Path(given.out or f"releases/{given.name}-{choice.run.run_id[:12]}")
    gated = gate(store, choice, terms, place, folder)
    say(gated.report.checks)
    return _publish(store, given.name, choice, gated, folder)


def _publish(store: "Store", name: str, choice: "Choice", gated: "Gated", folder: Path) -> int:
    """Makes the bundle the champion, unless the gate refused it; says what became of it."""
    from glidexp.data.steps import shown_stage
    from glidexp.tracking.registry import Overtaken, release

    failed = ", ".join(check.name for check in gated.report.failed)
    if gated.report.verdict == "refused":
        print(
            f"Refused: {failed}. The bundle with its report is in {folder}; --force would release it and record that."
        )
        return 1
    try:
        with shown_stage(f"registering models:/{name}"):
            made = release(
                store,
                name,
                bundle=folder,
                run_id=choice.run.run_id,
                pip_requirements=gated.requirements,
                tags=gated.report.tags(),
                against=gated.against,
                description=choice.sentence,
            )
    except Overtaken as error:
        print(f"Not released: {error}")
        return 1
    print(f"Released: models:/{name}@champion is version {made.number}{f', forced ({failed})' if failed else ''}.")
    if gated.against:
        print(f"models:/{name}@previous is version {gated.against.number}: --rollback makes it the champion again.")
    print(f"Bundle: {folder}; check it anywhere with glidexp verify {folder}.")
    return 0
