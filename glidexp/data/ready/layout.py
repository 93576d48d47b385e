"""Where ready tiles lie: folders, ZIPs and RARs with images/ beside labels/, found and described, not guessed."""

import os
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

from glidexp.data.ready.members import open_zip
from glidexp.data.ready.unpack import is_rar, list_rar, unpack
from glidexp.errors import DataError

Source = Path | zipfile.Path
"""a file or folder, on the disk or in a ZIP"""
PARTS = ("images", "labels")
GLID_COUNTS = {"GLID": 16000, "val": 2367}
"""pairs of the published set, by the folder that holds images/ and labels/"""
DEEPEST = 4
"""folders below a given one that are looked into"""
ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
NOT_DATA = ("__MACOSX", "Thumbs.db", "desktop.ini")


@dataclass(frozen=True, slots=True)
class Place:
    """A folder that holds images/ and labels/."""

    name: str
    """of the folder; of the archive, where they lie at its top"""
    source: Path
    """folder on the disk, or archive"""
    inner: str = ""
    """folder inside the archive, empty at its top"""

    @property
    def archived(self) -> bool:
        return self.source.is_file()

    def __str__(self) -> str:
        return str(self.source / self.inner) if self.inner else str(self.source)

    def open(self, data_dir: Path) -> Source:
        """The folder itself: a ZIP is read as it lies, a RAR is unpacked below `data_dir` first.

        Raises:
            DataError: the archive is refused or damaged, or cannot be unpacked
        """
        if not self.archived:
            return self.source
        if is_rar(self.source):
            return unpack(self.source, data_dir) / self.inner
        return zipfile.Path(_zip(*_stand(self.source)), f"{self.inner}/" if self.inner else "")


def roots(root: str | None) -> list[Path]:
    """The paths of a `dataset.root`, which may name several with the separator of PATH.

    Raises:
        DataError: one is not there
    """
    found = []
    for text in (root or "").split(os.pathsep):
        path = Path(text).expanduser()
        if text and not path.is_dir() and _archive_above(path) is None:
            what = "no folder and no archive (.zip, .rar)" if path.exists() else "not there"
            raise DataError(f"{path} is {what}: correct the path (dataset.root).")
        if text:
            found.append(path)
    return found


def find_places(root: str | None) -> list[Place]:
    """Every folder with images/ and labels/ at or below the given paths, archives included, in order.

    Of a folder and an archive that both hold a place of one name, the unpacked one comes first.

    Raises:
        DataError: a path that is not there, an archive that cannot be read or is refused
    """
    found: list[Place] = []
    for path in roots(root):
        if path.is_dir():
            found += _below(path)
        else:
            archive = _archive_above(path)
            assert archive is not None
            inner = path.relative_to(archive).as_posix() if path != archive else ""
            places = _inside(archive)
            found += [p for p in places if not inner or f"{p.inner}/".startswith(f"{inner}/")]
    unique = {(place.source.resolve(), place.inner): place for place in found}
    return sorted(unique.values(), key=lambda place: place.archived)


def glid_places(root: str | None) -> dict[str, Place]:
    """The places of the published set that are there, by name."""
    found: dict[str, Place] = {}
    for place in find_places(root):
        name = {known.lower(): known for known in GLID_COUNTS}.get(place.name.lower())
        if name:
            found.setdefault(name, place)
    return found


def folder_place(root: str) -> Place:
    """The one place of a data set of ready tiles.

    Raises:
        DataError: there is none, or there are several
    """
    paths = roots(root)
    if len(paths) == 1 and paths[0].is_dir():
        if all((paths[0] / part).is_dir() for part in PARTS):
            return Place(paths[0].name, paths[0])
        lacking = next(part for part in PARTS if not (paths[0] / part).is_dir())
        near = list(_below(paths[0]))[:5]
        way = f" Below it: {', '.join(map(str, near))}; name one of them." if near else ""
        raise DataError(
            f"{paths[0] / lacking} is not there: dataset.root must hold images/N.png and labels/N.png, or "
            f"dataset.images and dataset.labels say where they lie.{way}"
        )
    places = find_places(root)
    if len(places) == 1:
        return places[0]
    if not places:
        raise DataError(f"{root} holds no images/ beside labels/. It holds: {'; '.join(describe(root))}.")
    raise DataError(
        f"{root} holds {len(places)} sets of tiles: {', '.join(map(str, places[:8]))}. Name one as dataset.root."
    )


def describe(root: str | None) -> list[str]:
    """What lies at the given paths, a sentence a path: folders with the number of files of each kind."""
    said = []
    for path in roots(root):
        counts: dict[str, Counter[str]] = {}
        for name in _names(path):
            parent, ending = str(PurePosixPath(name).parent), PurePosixPath(name).suffix.lower() or "no ending"
            counts.setdefault(parent, Counter())[ending] += 1
        lines = [
            f"{parent if parent != '.' else 'top'}: {', '.join(f'{n} {ending}' for ending, n in kinds.most_common(4))}"
            for parent, kinds in sorted(counts.items())
        ]
        more = f"; and {len(lines) - 12} folders more" if len(lines) > 12 else ""
        said.append(f"{path.name}: {'; '.join(lines[:12]) or 'nothing'}{more}")
    return said


def children(folder: Source) -> Iterator[tuple[str, Source]]:
    """Every file below a folder, as (path from it, file); what a system leaves behind is passed over."""
    if isinstance(folder, Path):
        for base, names, files in os.walk(folder):
            names[:] = sorted(name for name in names if name not in NOT_DATA and not name.startswith("."))
            here = Path(base)
            for name in files:
                if name not in NOT_DATA and not name.startswith("."):
                    yield (here / name).relative_to(folder).as_posix(), here / name
        return
    for name in folder.root.namelist():
        if name.startswith(folder.at) and not name.endswith("/") and not _hidden(name):
            yield name[len(folder.at) :], zipfile.Path(folder.root, name)


def _hidden(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return any(part in NOT_DATA or part.startswith(".") for part in parts)


def _below(folder: Path, depth: int = 0) -> Iterator[Place]:
    entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    names = {entry.name for entry in entries if entry.is_dir()}
    if names.issuperset(PARTS):
        yield Place(folder.resolve().name, folder)
    for entry in entries:
        path = Path(entry.path)
        if entry.is_dir(follow_symlinks=True) and entry.name not in PARTS and not _hidden(entry.name):
            if depth < DEEPEST:
                yield from _below(path, depth + 1)
        elif entry.is_file() and path.suffix.lower() in (".zip", ".rar") and depth < 2:
            yield from _inside(path)


def _inside(archive: Path) -> list[Place]:
    """Places in an archive, by the names of its members."""
    held: dict[str, set[str]] = {}
    for name in _members(*_stand(archive)):
        parts = PurePosixPath(name).parts
        for i, part in enumerate(parts[:-1]):
            if part in PARTS:
                held.setdefault("/".join(parts[:i]), set()).add(part)
    return [
        Place(PurePosixPath(inner).name or archive.stem, archive, inner)
        for inner, found in sorted(held.items())
        if found.issuperset(PARTS)
    ]


def _names(path: Path) -> Iterable[str]:
    if path.is_dir():
        return (name for name, _ in children(path))
    archive = _archive_above(path)
    assert archive is not None
    inner = path.relative_to(archive).as_posix() + "/" if path != archive else ""
    return (name[len(inner) :] for name in _members(*_stand(archive)) if name.startswith(inner))


def _archive_above(path: Path) -> Path | None:
    """The archive that a path is or leads into."""
    for place in (path, *path.parents):
        if place.is_file():
            return place if place.suffix.lower() in (".zip", ".rar") else None
        if place.exists():
            return None
    return None


Stand = tuple[Path, int, int]


def _stand(archive: Path) -> Stand:
    try:
        stat = archive.stat()
    except OSError as error:
        raise DataError(f"{archive} cannot be read: {error.strerror}.") from None
    return archive, stat.st_size, stat.st_mtime_ns


@lru_cache(maxsize=16)
def _zip(path: Path, size: int, time: int) -> zipfile.ZipFile:
    return open_zip(path)


@lru_cache(maxsize=16)
def _members(path: Path, size: int, time: int) -> tuple[str, ...]:
    """Names of the files of an archive."""
    if is_rar(path):
        names = [member.name for member in list_rar(path)]
    else:
        names = [info.filename for info in _zip(path, size, time).infolist() if not info.is_dir()]
    return tuple(name for name in names if not _hidden(name))
