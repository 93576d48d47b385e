"""What `glidexp inventory series` takes for many maps of many lakes.

    python bench/series.py [--maps 20] [--lakes 30000] [--folder PLACE]

Lakes of 40 to 80 corners on a lattice with gaps, grown or shrunk and roughened by up to a pixel from map to map, one in
twenty not in a map, one in fifty cut in two. Prints seconds by stage and the peak of memory as JSON; the maps are kept
in --folder, where one is given, and taken from there again.
"""

import argparse
import json
import resource
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import geopandas
import numpy as np
import shapely

from glidexp.mapping.dated_maps import read_all
from glidexp.mapping.series import made
from glidexp.mapping.series_files import write_series

APART_M, PX = 800.0, 10.0
WEST, NORTH = 300_000.0, 3_600_000.0


def write_map(path: Path, lakes: int, number: int) -> None:
    """A map of one year."""
    rng, still = np.random.default_rng(number), np.random.default_rng(10**6)
    across = int(np.ceil(lakes**0.5))
    radius, growth, corners = still.uniform(40, 250, lakes), still.normal(0, 2, lakes), still.integers(40, 80, lakes)
    shapes = []
    for i in np.flatnonzero(rng.random(lakes) > 0.05).tolist():
        x, y = WEST + APART_M * (i % across), NORTH - APART_M * (i // across)
        turn = np.linspace(0, 2 * np.pi, corners[i], endpoint=False)
        size = max(radius[i] + growth[i] * number, 20.0) + rng.uniform(-PX, PX, corners[i])
        one = shapely.Polygon(np.column_stack([x + size * np.cos(turn), y + size * np.sin(turn)]))
        if i % 50 == number % 50:
            ring = shapely.box(x - 5, y - 400, x + 5, y + 400)
            shapes += list(shapely.get_parts(shapely.difference(one, ring)))
        else:
            shapes.append(one)
    frame = geopandas.GeoDataFrame({"date": [f"{2000 + number}-09-15"] * len(shapes)}, geometry=shapes, crs=32645)
    bound = 0.5 * PX * frame.length * np.pi / 4 / 1e6
    frame["area_low_km2"], frame["area_high_km2"] = frame.area / 1e6 - bound, frame.area / 1e6 + bound
    frame["cut"] = False
    frame.to_file(path, layer="lakes")
    ground = shapely.box(WEST - 2000, NORTH - APART_M * across - 2000, WEST + APART_M * across + 2000, NORTH + 2000)
    geopandas.GeoDataFrame(geometry=[ground], crs=32645).to_file(path, layer="ground")


def main() -> None:
    """Makes the maps, follows the lakes, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--maps", type=int, default=20)
    parser.add_argument("--lakes", type=int, default=30_000)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as aside:
        folder = given.folder or Path(aside)
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / f"lakes_{given.lakes}_{number}.gpkg" for number in range(given.maps)]
        for number, path in enumerate(paths):
            if not path.exists():
                write_map(path, given.lakes, number)
        began = time.perf_counter()
        dated = read_all(paths, lambda *_: None, gsd_m=None, layer=None, column=None, by_year=False)
        read = time.perf_counter()
        series = made(dated, lambda *_: None)
        followed = time.perf_counter()
        write_series(series, Path(aside) / "out")
        line = {
            "maps": given.maps,
            "outlines": sum(len(one.shapes) for one in dated.maps),
            "lakes": len(series.lakes),
            "read_s": round(read - began, 1),
            "follow_s": round(followed - read, 1),
            "write_s": round(time.perf_counter() - followed, 1),
            "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
            "verdicts": series.lakes["verdict"].value_counts().to_dict(),
        }
        print(json.dumps(line))


if __name__ == "__main__":
    main()
