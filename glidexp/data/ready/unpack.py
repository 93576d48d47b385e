"""RAR archives, unpacked once into a folder. rarfile lists and judges members and reads those that are only stored; for
compressed ones libarchive, unrar, 7z or bsdtar is needed, whichever is there. What they give is compared with the list.
"""

import hashlib
import logging
import os
import shutil
import subprocess
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from glidexp.beside import folder_beside
from glidexp.data.ready.members import FOLDER, LINK, OTHER, REGULAR, Member, judge
from glidexp.data.steps import shown_steps
from glidexp.errors import DataError
from glidexp.wording import does, many

log = logging.getLogger("glidexp")
CHUNK = 1 << 20
TOOLS: dict[str, Callable[[str, Path, Path], list[str]]] = {
    "unrar": lambda tool, archive, folder: [tool, "x", "-idq", "-y", "-p-", "--", str(archive), f"{folder}{os.sep}"],
    "7zz": lambda tool, archive, folder: [tool, "x", "-y", "-p-", "-bd", f"-o{folder}", "--", str(archive)],
    "7z": lambda tool, archive, folder: [tool, "x", "-y", "-p-", "-bd", f"-o{folder}", "--", str(archive)],
    "bsdtar": lambda tool, archive, folder: [tool, "-x", "-f", str(archive), "-C", str(folder)],
}
"""programs that read compressed RAR, and their words; p7zip without its RAR part fails and the next one is tried"""


def is_rar(path: Path) -> bool:
    """Whether a file begins as a RAR does."""
    with path.open("rb") as stream:
        return stream.read(7) in (b"Rar!\x1a\x07\x00", b"Rar!\x1a\x07\x01")


def list_rar(path: Path) -> list[Member]:
    """The judged files of a RAR.

    Raises:
        DataError: no RAR, cut off, one of several volumes, or refused
    """
    with _opened(path) as archive:
        files = judge(path, [_member(info) for info in archive.infolist()])
    if not files:
        raise DataError(f"{path} holds no file, or was cut off: compare its size with the publisher's.")
    return files


def unpack(path: Path, data_dir: Path) -> Path:
    """Folder of the unpacked files: data_dir/unpacked/NAME-ID, made where it is not there yet.

    Raises:
        DataError: refused, no room on the disk, no program to read it, or its content does not fit its list
    """
    stat = path.stat()
    word = hashlib.sha256(f"{path.name}/{stat.st_size}/{stat.st_mtime_ns}".encode()).hexdigest()[:12]
    folder = data_dir / "unpacked" / f"{path.stem}-{word}"
    if folder.is_dir():
        return folder
    files = {member.name: member for member in list_rar(path)}
    with _opened(path) as archive:
        infos = archive.infolist()
        stored = all(info.is_dir() or info.compress_type == _STORED for info in infos) and not archive.is_solid()
        need = sum(member.size for member in files.values())
        folder.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder.parent).free
        if free < need:
            raise DataError(
                f"{path} unpacks to {need >> 20} MiB, but {folder.parent} has room for {free >> 20} MiB: "
                "make room, or give another folder as paths.data."
            )
        log.info("unpacking %s: %s, %d MiB, to %s", path, many(len(files), "file"), need >> 20, folder)
        try:
            with folder_beside(folder) as aside:
                _unpack_into(aside, path, archive, files, stored)
                os.replace(aside, folder)
        except OSError as error:
            raise DataError(
                f"{path} cannot be unpacked to {folder.parent} ({error.strerror or error}): free some room, or give "
                "another folder as paths.data."
            ) from None
    return folder


_STORED = 0x30
"""rarfile's number of the method that compresses nothing"""


def _opened(path: Path) -> Any:
    import rarfile

    try:
        archive = rarfile.RarFile(path)
    except (rarfile.Error, OSError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read as a RAR: {' '.join(str(error).split()) or type(error).__name__}; compare its size "
            "with the publisher's and fetch it again."
        ) from None
    if archive.needs_password():
        raise DataError(f"{path} needs a password: unpack it yourself and give the folder.")
    return archive


def _member(info: Any) -> Member:
    kind = FOLDER if info.is_dir() else REGULAR
    # a redirection is a link or a copy of another member, whatever its type says
    if info.is_symlink() or getattr(info, "file_redir", None):
        kind = LINK
    elif not info.is_dir() and not info.is_file():
        kind = OTHER
    return Member(info.filename, int(info.file_size or 0), kind, info.needs_password(), info.CRC)


def _unpack_into(aside: Path, path: Path, archive: Any, files: dict[str, Member], stored: bool) -> None:
    """Writes all files below `aside`, by the first way that is there and works."""
    failures = []
    if stored:
        _write(aside, path, files, _read_stored(path, archive, files))
        return None
    ways: list[tuple[str, Callable[[], None]]] = []
    if libarchive_is_there():
        ways.append(("libarchive", lambda: _write(aside, path, files, _read_libarchive(path))))
    for name, words in TOOLS.items():
        tool = shutil.which(name)
        if tool:
            ways.append((name, lambda t=tool, w=words: _call(w(t, path, aside), aside, files)))  # type: ignore[misc]
    for name, way in ways:
        for left in aside.iterdir():  # of the way before
            shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
        try:
            return way()
        except DataError as error:
            failures.append(f"{name}: {error}")
    if failures:
        raise DataError(f"{path} could not be unpacked. {' '.join(failures)} Fetch the archive again.")
    raise DataError(
        f"{path} is compressed, and nothing is there to unpack it: install one of libarchive13, unrar, 7zip or "
        "libarchive-tools (apt), libarchive or sevenzip (brew), or unpack it elsewhere and give the folder."
    )


def libarchive_is_there() -> bool:
    """Whether libarchive and its Python face can be loaded."""
    try:
        import libarchive  # noqa: F401
    except (ImportError, OSError, TypeError, AttributeError):  # the package is there, the library is not
        return False
    return True


Content = tuple[str, Iterator[bytes]]


def _read_stored(path: Path, archive: Any, files: dict[str, Member]) -> Iterator[Content]:
    import rarfile

    def blocks(name: str) -> Iterator[bytes]:
        try:
            with archive.open(name) as stream:
                while block := stream.read(CHUNK):
                    yield block
        except (rarfile.Error, OSError) as error:
            raise DataError(f"{path}, member {name}: {' '.join(str(error).split())}; fetch it again.") from None

    for name in files:
        yield name, blocks(name)


def _read_libarchive(path: Path) -> Iterator[Content]:
    import libarchive

    try:
        with libarchive.file_reader(str(path), block_size=CHUNK) as entries:
            for entry in entries:
                if entry.isfile:
                    yield entry.pathname, entry.get_blocks(CHUNK)
    except libarchive.exception.ArchiveError as error:
        raise DataError(f"{path} is damaged: {' '.join(str(error).split())}.") from None


def _write(aside: Path, path: Path, files: dict[str, Member], contents: Iterator[Content]) -> None:
    """Writes members that are on the list, never more bytes than it says, and compares their CRC."""
    lacking = dict(files)
    for name, blocks in _shown(contents, len(files)):
        member = lacking.pop(name, None)
        if member is None:
            raise DataError(f"{path} gives {name!r}, which is not on its list.")
        target = aside / name
        target.parent.mkdir(parents=True, exist_ok=True)
        size, crc = 0, 0
        with target.open("xb") as sink:
            for block in blocks:
                size += len(block)
                if size > member.size:
                    break
                crc = zlib.crc32(block, crc)
                sink.write(block)
        if size != member.size or (member.crc is not None and crc != member.crc):
            raise DataError(f"{path}, member {name}: its content does not fit its size and CRC.")
    if lacking:
        raise DataError(f"{path}: {many(len(lacking), 'member')} could not be read, first {next(iter(lacking))}.")


def _shown(contents: Iterator[Content], files: int) -> Iterator[Content]:
    with shown_steps(files, "files", True, what="unpacking", late=True) as step:
        for name, blocks in contents:
            yield name, blocks
            step("")


def _call(words: list[str], aside: Path, files: dict[str, Member]) -> None:
    """Lets a program unpack the judged archive, then looks at what it wrote."""
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    if done.returncode:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise DataError(f"it ended with {done.returncode}: {lines[-1].strip() if lines else 'no word'}.")
    written = {}
    for file in aside.rglob("*"):
        if file.is_symlink() or not (file.is_file() or file.is_dir()):
            raise DataError(f"it wrote {file.name}, which is no plain file.")
        if file.is_file():
            written[file.relative_to(aside).as_posix()] = file
    if written.keys() != files.keys():
        raise DataError(f"it wrote {many(len(written), 'file')} where {len(files)} {does(len(files), 'are')} listed.")
    for name, file in written.items():
        member, crc = files[name], 0
        with file.open("rb") as stream:
            while block := stream.read(CHUNK):
                crc = zlib.crc32(block, crc)
        if file.stat().st_size != member.size or (member.crc is not None and crc != member.crc):
            raise DataError(f"member {name} does not fit its size and CRC.")
