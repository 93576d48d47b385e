"""The tiles of a run as all its processes see them: made once on a common disk, else once a machine, and the same."""

from pathlib import Path
from typing import Any

from glidexp.config import Config
from glidexp.data.prepare import prepare
from glidexp.data.store import TileStore
from glidexp.data.workers import Crew
from glidexp.errors import DataError
from glidexp.training.processes.ranks import Ranks


def prepared(config: Config, ranks: Ranks) -> TileStore:
    """The tiles, made by rank 0 where they are not there yet. A machine that does not see them then makes its own.

    Raises:
        ConfigError, DataError, RunFailed: they cannot be made
        DataError: this machine has others than rank 0
    """
    told: Any = None if ranks.first else ranks.share(None)
    crew = Crew() if ranks.local == 0 else None
    tiles = prepare(config.dataset, config.tile_size.px, Path(config.paths.data), progress=ranks.first, crew=crew)
    if ranks.local == 0:
        tiles.verify()
    own = {"tiles": tiles.data_hash, "split": tiles.split_hash}
    if ranks.first:
        ranks.share(own)
        return tiles
    for what, ours in own.items():
        if ours != told[what]:
            raise DataError(
                f"{tiles.path}: {what} of this machine ({ours[:12]}) differ from those of rank 0 ({told[what][:12]}): "
                "give all machines one paths.data, or copy it."
            )
    return tiles
