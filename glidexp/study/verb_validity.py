"""`glidexp validity`: what a model was trained on, how far scenes lie from that, and what score to expect of them."""

import tempfile
from argparse import Namespace
from collections.abc import Callable, Iterable
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from glidexp.errors import ConfigError, DataError, TrackingError
from glidexp.options import Parser, store_options, write_out

if TYPE_CHECKING:
    import pandas as pd

    from glidexp.config.evaluation import EvaluateConfig
    from glidexp.models.load import FoundModel
    from glidexp.models.validity import Validity
    from glidexp.study.validity.matrix import FromMatrix
    from glidexp.study.validity.page import Page
    from glidexp.study.validity.scenes import Judged
    from glidexp.tracking.store import Store

Compose = Callable[[list[str]], "EvaluateConfig"]
PAGE, TEXT, ROWS = "validity.html", "validity.md", "scenes.csv"


def options() -> Parser:
    """What the verb takes."""
    parser = Parser(
        prog="glidexp validity",
        usage="glidexp validity MODEL [SCENE ...] [KEY=VALUE ...] [options]",
        description="Writes a page on what a model was trained on, and how far scenes lie from that: by statistics of "
        "their pixels, and by what the model's own encoder makes of them; with the score to expect where a transfer "
        "matrix is given. KEY=VALUE (dataset=..., eval.split=...) takes the scenes of a data set, as glidexp evaluate.",
    )
    parser.add_argument("model", metavar="MODEL", help="run id, folder of a bundle, models:/NAME@ALIAS")
    parser.add_argument("things", metavar="SCENE", nargs="*", help="raster, .SAFE, folder of scenes; or KEY=VALUE")
    parser.add_argument(
        "--matrix", metavar="STUDY", action="append", default=[],
        help="transfer matrix: a study, its folder, or the parent of runs; more than once: all of them, or single runs",
    )  # fmt: skip
    parser.add_argument("--by", choices=("region", "sensor"), default="region", help="its targets (default: region)")
    parser.add_argument("--level", type=float, default=0.9, help="share that intervals are to hold (default: 0.9)")
    parser.add_argument("--out", metavar="DIR", help="folder of the page (default: outputs/validity/MODEL)")
    parser.add_argument("--sensor", default="unknown", help="sensor of scenes that name none (default: unknown)")
    parser.add_argument("--sensors-file", metavar="YAML", help="sensors of your own, added to the registry")
    parser.add_argument("--dem", metavar="PATH", help="heights below scenes, as of glidexp predict")
    store_options(parser)
    return parser


def run(argv: list[str], compose: Compose) -> int:
    """Judges, prints a line a scene, writes the page; gives the exit code."""
    given = options().parse_intermixed_args(argv)
    if not 0.5 <= given.level < 1:
        raise ConfigError(f"--level {given.level:g} is not possible: give a share from 0.5 to below 1, such as 0.9.")
    words = [word for word in given.things if "=" in word and not Path(word).exists()]
    places = [word for word in given.things if word not in words]
    config = compose(words) if words else None
    if given.sensors_file:
        from glidexp.data import sensors

        sensors.register_file(given.sensors_file)
    from glidexp.mapping.areas import plain
    from glidexp.models.load import find, is_place
    from glidexp.models.validity import of_bundle
    from glidexp.study.validity.lacking import why_nothing
    from glidexp.study.validity.page import Page, sentence
    from glidexp.tracking.store import store_at
    from glidexp.training.rescoring.rescore import name_of

    alone = is_place(given.model) and not given.matrix and config is None
    store = None if alone else store_at(given.mlruns, given.uri, make=is_place(given.model), read=True)
    with tempfile.TemporaryDirectory(prefix="glidexp-model-") as aside:
        found = find(given.model, store, Path(aside))
        validity = of_bundle(found.bundle, found.card)
        if validity is None:
            why = why_nothing(found)
            raise DataError(f"{given.model} keeps nothing of what its training tiles look like: {why}.")
        matrix = _matrix(store, given)
        scenes = [*_of_places(validity, found, places, given)]
        if config is not None and store is not None:
            config.model = given.model
            scenes += _of_data(validity, found, config, words, store, Path(aside))
        title = name_of(found) if found.tracked is not None else Path(given.model).name
        page = Page(title, found.card, validity, scenes, matrix, _own(found, store, Path(aside)))
    out = Path(given.out or Path("outputs") / "validity" / plain(Path(given.model).resolve().name))
    write(page, out)
    for one in scenes:
        print(f"{one.name}: too few valid pixels" if one.verdict is None else sentence(one, matrix))
    print(f"page: {out / PAGE}")
    return 0


def write(page: "Page", folder: Path) -> None:
    """Writes the page as HTML and Markdown, its pictures as PNG and PDF, and a CSV with a row a scene.

    Raises:
        ConfigError: the folder cannot be written to
    """
    from glidexp.study.report.blocks import Picture, html, markdown
    from glidexp.study.validity.page import blocks, scene_rows

    title, content = f"Validity of {page.model}", blocks(page)
    files = {PAGE: html(title, content).encode(), TEXT: markdown(title, content).encode()}
    for block in content:
        if isinstance(block, Picture):
            files |= {f"figures/{name}": drawn for name, drawn in block.files.items()}
    if page.scenes:
        files[ROWS] = scene_rows(page).to_csv(index=False).encode()
    write_out(folder, files)


def _matrix(store: "Store | None", given: Namespace) -> "FromMatrix | None":
    if not given.matrix or store is None:
        return None
    from glidexp.study.validity.matrix import from_matrix

    try:
        return from_matrix(store, given.matrix, by=given.by, level=given.level)
    except TrackingError as error:
        raise TrackingError(f"--matrix: {error}") from None


def _of_places(validity: "Validity", found: "FoundModel", places: list[str], given: Namespace) -> "Iterable[Judged]":
    if not places:
        if given.dem:
            raise ConfigError(f"--dem={given.dem} would not be used: it lies below scenes that are given as files.")
        return []
    from glidexp.mapping.verb_predict import scenes_of
    from glidexp.study.validity.scenes import of_files

    return of_files(validity, found, scenes_of(places, given.sensor, dem=given.dem))


def _of_data(
    validity: "Validity", found: "FoundModel", config: "EvaluateConfig", words: list[str], store: "Store",
    aside: Path,
) -> "Iterable[Judged]":  # fmt: skip
    """Scenes of the data set that the words name; of the model's own where they name none."""
    from glidexp.data.prepare import prepare
    from glidexp.data.workers import Crew
    from glidexp.study.validity.scenes import of_store
    from glidexp.training.rescoring.evaluation import complete
    from glidexp.training.rescoring.scored import rows_of, which_split

    keys = [word.split("=", 1)[0].lstrip("+~") for word in words]
    complete(config, keys, found, store, aside)
    tiles = prepare(config.dataset, config.tile_size.px, Path(config.paths.data), crew=Crew())
    rows = rows_of(config, tiles, which_split(config.eval.split, found.card, tiles))
    return of_store(validity, found, tiles, rows)


def _own(found: "FoundModel", store: "Store | None", aside: Path) -> "pd.DataFrame | None":
    """The model's own test scenes, where its run is in the store."""
    import pandas as pd

    from glidexp.models.survey import SCENES
    from glidexp.tracking.models import read_text

    text = read_text(store, found.run_id, SCENES, aside) if store is not None and found.run_id else None
    return pd.read_csv(StringIO(text)) if text else None
