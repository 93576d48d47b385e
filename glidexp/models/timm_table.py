"""What was found out once about every model of one timm version, so that an impossible one is refused without torch.

`timm_backbones.csv` holds a row a model: how it is used and the decoders that fail on it, or why it cannot be used. It
counts only with the timm version in its first line; with any other one `timm_lookup` tries the model itself, which
takes as long as importing torch and timm does. Written anew by

    python -m glidexp.models.timm_table
"""

import csv
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from glidexp.beside import beside
from glidexp.errors import ConfigError
from glidexp.models.catalog import Backbone, Family, allowed_decoders

TABLE = Path(__file__).with_name("timm_backbones.csv")
COLUMNS = ("name", "family", "dilates", "options", "smallest_px", "failing", "refused")
TRIED_PX = 256
"""side of the image that each decoder was tried on"""


def known(name: str) -> Backbone | str | None:
    """What the table says of a model: how it is used, or why it cannot be.

    Args:
        name: of timm; a pre-training tag after a dot is left away

    Returns:
        None where the table does not have it or was made with another timm
    """
    return _rows().get(name.partition(".")[0])


@lru_cache(maxsize=1)
def _rows() -> dict[str, Backbone | str]:
    try:
        first_line = f"# timm {version('timm')}"
    except PackageNotFoundError:
        return {}
    if not TABLE.is_file():
        return {}
    with TABLE.open(newline="", encoding="utf-8") as file:
        if file.readline().strip() != first_line:
            return {}
        return {line["name"]: _from_line(line) for line in csv.DictReader(file)}


def _from_line(line: dict[str, str]) -> Backbone | str:
    if line["refused"]:
        return line["refused"]
    return Backbone(
        f"tu-{line['name']}",
        Family(line["family"]),
        dilates=line["dilates"] == "yes",
        options=tuple((part.partition("=")[0], part.endswith("=True")) for part in line["options"].split()),
        smallest_px=int(line["smallest_px"]),
        failing=tuple(line["failing"].split()),
    )


def tried(name: str) -> dict[str, str]:
    """The line of a model: it and every decoder of its family are tried on torch's meta device."""
    from glidexp.models.timm_lookup import UnusableError, on_paper, try_pair

    line = dict.fromkeys(COLUMNS, "") | {"name": name}
    try:
        found = on_paper(name)
    except UnusableError as error:
        return line | {"refused": str(error)}
    failing = []
    for decoder in allowed_decoders(found):
        try:
            try_pair(name, decoder, max(TRIED_PX, found.smallest_px))
        except ConfigError:
            failing.append(decoder)
    return line | {
        "family": found.family.value,
        "dilates": "yes" if found.dilates else "no",
        "options": " ".join(f"{key}={value}" for key, value in found.options),
        "smallest_px": str(found.smallest_px),
        "failing": " ".join(failing),
    }


def write() -> None:
    """Tries every model of the installed timm (about an hour) and writes the table."""
    from rich.progress import track

    from glidexp.models.timm_lookup import timm_names

    TABLE.unlink(missing_ok=True)  # its rows must not answer while they are found out again
    with beside(TABLE) as place, place.open("w", newline="", encoding="utf-8") as file:
        file.write(f"# timm {version('timm')}\n")
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for name in track(sorted(timm_names()), description="timm models"):
            writer.writerow(tried(name))
            file.flush()


if __name__ == "__main__":
    write()
