"""The folder of a release: weights, card, ground, graphs, probe tiles, report, pages, and the sha256 of all.

weights.safetensors  card.json  ground.parquet      what `models.export.load_bundle` reads
validity.safetensors                                what the training tiles look like
model.onnx  model.pt2                               the same network without this package
config.yaml  gate.json  item.json                   how it was trained, what the gate found, STAC MLM
MODEL_CARD.md  model_card.html  pictures/           for people
probes/  example_onnx.py                            pixels with the answer expected; ONNX Runtime in 30 lines
SHA256SUMS                                          of everything else, as `sha256sum -c` takes it
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from glidexp.beside import file_sha256, write_bytes
from glidexp.data.steps import shown_stage
from glidexp.data.store import TileStore
from glidexp.errors import DataError, TrackingError
from glidexp.models import graph
from glidexp.models.card import CARD, GROUND, VALIDITY, WEIGHTS, check_card, read_card
from glidexp.models.export import load_bundle
from glidexp.models.told import told_of
from glidexp.release.agreement import ONNX, PROGRAM
from glidexp.release.probes import write_probes
from glidexp.release.report import Report
from glidexp.tracking.found import TrackedRun, fetch_file
from glidexp.tracking.store import Store
from glidexp.training.bands import places_of_bands

Rows = npt.NDArray[np.int64]
SUMS = "SHA256SUMS"
REPORT = "gate.json"
EXAMPLE = "example_onnx.py"
PICTURES = {
    "predictions.png": "Tiles of the test ground: image, truth, prediction, error",
    "worst_tiles.png": "The tiles with most wrong pixels: where it fails",
    "reliability_test.png": "What the probability means, on test",
    "pr_test.png": "Precision and recall at every threshold, on test",
}
"""files of the run's plots/ that go along, and what they show"""


def draft(folder: Path, bundle: Path, more: Mapping[str, Any], tiles: TileStore, rows: Rows) -> None:
    """Writes weights, card, graphs and probe tiles of a network, on which the gate then looks.

    Args:
        folder: does not exist yet, or is empty
        bundle: as training left it
        more: goes into the card: name, license, citation
        tiles: the store on which it was scored
        rows: that were scored; probes are cut from them
    """
    folder.mkdir(parents=True, exist_ok=True)
    with shown_stage("bundle: weights and card"):
        for name in (WEIGHTS, GROUND, VALIDITY):
            if (bundle / name).is_file():
                shutil.copyfile(bundle / name, folder / name)
        predictor = load_bundle(bundle)
        sizes = graph.sizes_of(predictor, int(str(predictor.card.get("tile_px", 256))))
        card = read_card(bundle) | dict(more)
        card["graph"] = {"stride": sizes.stride, "smallest_px": sizes.smallest_px, "fixed_px": sizes.fixed_px}
        card["parameters"] = sum(weight.numel() for weight in predictor.net.parameters())
        check_card(card, CARD)
        write_json(folder / CARD, card)
    with shown_stage("bundle: export of the network (torch.export)"):
        program = graph.export(predictor, sizes)
    facts = {key: card[key] for key in ("threshold", "bands", "name") if card.get(key) is not None}
    if told := told_of(card).gsd_m:
        facts["gsd_m"] = told  # of the images that the graphs take
    with shown_stage(f"bundle: {ONNX}"):
        graph.save_onnx(program, sizes, facts, folder / ONNX)
    with shown_stage(f"bundle: {PROGRAM}"):
        graph.save_program(program, folder / PROGRAM)
    with shown_stage("bundle: probe tiles and their answers"):
        write_probes(folder, predictor, tiles, _with_most_lake(tiles, rows), places_of_bands(card, tiles))
    shutil.copyfile(Path(__file__).with_name(EXAMPLE), folder / EXAMPLE)


def add_of_run(folder: Path, store: Store, run: TrackedRun) -> None:
    """Adds the run's config and pictures, as far as it has them."""
    fetched = folder / ".fetched"
    with shown_stage("bundle: config and pictures of the run"):
        shutil.copyfile(fetch_file(store, run, "config.yaml", fetched), folder / "config.yaml")
        (folder / "pictures").mkdir()
        for name in PICTURES:
            try:
                shutil.copyfile(fetch_file(store, run, f"plots/{name}", fetched), folder / "pictures" / name)
            except TrackingError:  # a run without pictures is released without them
                continue
        shutil.rmtree(fetched)


def seal(folder: Path, report: Report) -> None:
    """Adds the gate's report, and the sha256 of all that is there."""
    write_json(folder / REPORT, report.to_json())
    sums = "".join(f"{file_sha256(path)}  {path.relative_to(folder)}\n" for path in _files(folder))
    write_bytes(folder / SUMS, sums.encode())


def broken(folder: Path) -> list[str]:
    """What is wrong with the files of a bundle: changed, missing, not listed, or links.

    Raises:
        DataError: there is no list of sums
    """
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{folder} is no released bundle: {SUMS} cannot be read ({error}).") from None
    listed = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    there = {str(path.relative_to(folder)): path for path in _files(folder)}
    links = sorted(name for name, path in there.items() if path.is_symlink() or not path.is_file())
    if links:  # not read: they lead out of the bundle, or never end
        return [f"{name} is no file of its own" for name in links]
    found = [f"{name} is missing" for name in sorted(listed.keys() - there.keys())]
    found += [f"{name} is not listed" for name in sorted(there.keys() - listed.keys())]
    return found + [
        f"{name} is changed"
        for name in sorted(listed.keys() & there.keys())
        if file_sha256(there[name]) != listed[name]
    ]


def write_json(path: Path, value: Any) -> None:
    """Writes it aside and renames it, keys sorted."""
    write_bytes(path, (json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n").encode())


def _files(folder: Path) -> list[Path]:
    """All but the list of sums itself; links too, even those that lead nowhere."""
    paths = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return sorted(path for path in paths if path != folder / SUMS)


def _with_most_lake(tiles: TileStore, rows: Rows) -> Rows:
    share = tiles.index["lake_fraction"].iloc[rows].to_numpy(dtype=float)
    return rows[np.argsort(-share, kind="stable")][:2]
