"""`glidexp data build`: scenes and inventories to a tile store, by all cores, and a word on what is in it."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from glidexp.config import Config, DatasetKind, TrainConfig
from glidexp.config.unread import refuse_unread
from glidexp.data.workers import CLUSTERS, Crew
from glidexp.errors import ConfigError
from glidexp.options import Parser

if TYPE_CHECKING:
    from glidexp.data.store import TileStore
    from glidexp.data.verbs import Compose

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "KI": 1 << 10, "MI": 1 << 20, "GI": 1 << 30}


def options() -> Parser:
    """What the verb takes."""
    parser = Parser(
        prog="glidexp data build",
        usage="glidexp data build SETTING... [--workers N] [--memory SIZE] [--map CLUSTER] [--out FOLDER] "
        "[--skip-failed]",
        description="Builds tiles from scenes and outlines: dataset.root=SCENES dataset.lakes=FILE "
        "dataset.glaciers=FILE, and any other setting of a run that concerns dataset or tile_size.",
        epilog="The store is the same whoever makes it. A build that was stopped goes on where it was when the same "
        "command is given again. A run with these settings opens the store, or builds it itself.",
    )
    parser.add_argument("words", nargs="*", metavar="SETTING", help="settings of a run, as tile_size=512")
    parser.add_argument(
        "--workers", type=int, default=0, metavar="N", help="processes (default: by cores, memory and scenes)"
    )
    parser.add_argument("--memory", metavar="SIZE", help="for all of them together, as 2GB (default: what is free)")
    parser.add_argument(
        "--map",
        default="",
        metavar="CLUSTER",
        help=f"{' or '.join(CLUSTERS)} instead of processes of this machine; :ADDRESS of one that runs already",
    )
    parser.add_argument("--out", metavar="FOLDER", help="folder of the store (default: paths.data/stores/ID)")
    parser.add_argument(
        "--skip-failed", action="store_true", help="make the store without the scenes that cannot be used"
    )
    return parser


def run(argv: list[str], compose: "Compose") -> int:
    """Builds, reports; gives the exit code."""
    given = options().parse_intermixed_args(argv)
    crew = Crew(workers=given.workers, memory_bytes=memory_bytes(given.memory), cluster=given.map)
    config = settings(compose, given.words)
    from glidexp.data.prepare import prepare
    from glidexp.data.show.report_page import write_beside
    from glidexp.data.show.summary import show

    out = Path(given.out).absolute() if given.out else None
    store = prepare(
        config.dataset,
        config.tile_size.px,
        Path(config.paths.data),
        path=out,
        crew=crew,
        skip_failed=given.skip_failed,
    )
    show(store)
    write_beside(store)
    known = out is None and "skipped" not in store.manifest
    print(f"\nTrain on it:\n  {train_line(given.words if known else None, store)}")
    return 0


def settings(compose: "Compose", words: Sequence[str]) -> Config:
    """The config of a run on these scenes.

    Raises:
        ConfigError: a data set that is not built from scenes
    """
    named = any(word.startswith("dataset=") for word in words)
    config = compose([*([] if named else ["dataset=scenes"]), *words])
    kind = config.dataset.kind
    if kind not in (DatasetKind.scenes, DatasetKind.synthetic):
        way = "ready tiles are read by glidexp data import" if kind != DatasetKind.store else "a store is built already"
        raise ConfigError(f"dataset.kind={kind.value} is not built from scenes: {way}.")
    refuse_unread(config.dataset)
    if config.dataset.classes:
        raise ConfigError(f"dataset.classes={config.dataset.classes}: a store of land cover is made by the run on it.")
    return config


def memory_bytes(text: str | None) -> int:
    """Bytes of a size such as 2GB, 800MB or 1.5GiB; 0 where none is given.

    Raises:
        ConfigError: not a size
    """
    if not text:
        return 0
    found = re.fullmatch(r"([0-9]*\.?[0-9]+) *([KMG]?I?)B?", text.strip().upper())
    if not found or found[2] not in UNITS or float(found[1]) <= 0:
        raise ConfigError(f"--memory={text} is not a size: give a number with MB or GB, such as 800MB or 2GB.")
    return int(float(found[1]) * UNITS[found[2]])


def needed_for(store: "TileStore") -> list[str]:
    """Settings without which no training on the store would begin."""
    from glidexp.data.leakage import drawn_at_random

    tiles, usual = len(store.rows("train")), TrainConfig().batch_size
    few = 0 < tiles < int(usual)
    return ["allow_leak=true"] * drawn_at_random(store) + [f"train.batch_size={tiles}"] * few


def train_line(words: Sequence[str] | None, store: "TileStore") -> str:
    """The command that trains on the store: with the settings that made it, or by its folder where these are None."""
    added = needed_for(store)
    if words is None:
        from glidexp.data.verbs.verb_import import setting

        place = setting("dataset.root", str(store.path))
        return " ".join(["python train.py dataset=store", place, f"tile_size.px={store.tile_px}", *added])
    named = any(word.startswith("dataset=") for word in words)
    return shlex.join(["python", "train.py", *([] if named else ["dataset=scenes"]), *words, *added])
