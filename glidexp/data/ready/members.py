"""What an archive says it holds, judged before a byte of it is unpacked."""

import re
import stat
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from glidexp.errors import DataError
from glidexp.wording import does, many

MOST_MEMBERS = 2_000_000
LARGEST_MEMBER = 4 << 30
"""bytes; a picture of 32,000 x 32,000 px in three bands is 3 GiB"""
LARGEST_TOTAL = 512 << 30
"""bytes; the published set is 10 GiB"""
HIGHEST_RATIO = 100
"""unpacked to packed bytes of a whole archive: pictures give 1 to 3, outlines 10. Counted from SMALL on"""
SMALL = 256 << 20
"""bytes that any archive may unpack to: they fill no disk"""
REGULAR, FOLDER, LINK, OTHER = "file", "folder", "link", "other"


@dataclass(frozen=True, slots=True)
class Member:
    """A member as the archive lists it."""

    name: str
    size: int
    """bytes, unpacked"""
    kind: str = REGULAR
    encrypted: bool = False
    crc: int | None = None
    """CRC-32 of the content, where the archive has one"""


def judge(archive: Path, members: Sequence[Member]) -> list[Member]:
    """The files of an archive, after every member was looked at.

    Raises:
        DataError: a name that leads out of the folder, a link, two of one name, a password, more than a disk should get
    """
    files = []
    for member in members:
        reason = _reason(member)
        if reason:
            raise DataError(
                f"{archive} is refused, and nothing of it was unpacked: member {member.name[:120]!r} {reason}. "
                "Fetch the archive again from its publisher."
            )
        if member.kind == REGULAR:
            files.append(member)
    total, packed = sum(member.size for member in files), archive.stat().st_size
    if total > LARGEST_TOTAL or len(members) > MOST_MEMBERS:
        raise DataError(
            f"{archive} is refused, and nothing of it was unpacked: {many(len(members), 'member')} of "
            f"{total >> 20} MiB; "
            f"{MOST_MEMBERS} and {LARGEST_TOTAL >> 20} MiB are allowed."
        )
    if total > SMALL and total > HIGHEST_RATIO * packed:
        raise DataError(
            f"{archive} is refused, and nothing of it was unpacked: {packed} bytes would become {total}, "
            f"more than {HIGHEST_RATIO} times as many. That is no archive of pictures."
        )
    twice = [name for name, n in Counter(_key(member.name) for member in members).items() if n > 1]
    if twice:
        raise DataError(
            f"{archive} is refused, and nothing of it was unpacked: {many(len(twice), 'name')} "
            f"{does(len(twice), 'come')} twice, first {twice[0]!r}."
        )
    return files


def _reason(member: Member) -> str:
    """Why a member is refused, empty where it is not."""
    parts = re.split(r"[/\\]", member.name.rstrip("/"))
    if member.name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", member.name):
        return "has an absolute path"
    if ".." in parts:
        return "leads out of the folder (..)"
    if any(part in ("", ".") for part in parts) or any(ord(c) < 32 for c in member.name) or "\\" in member.name:
        return "has a name that is no path"
    if member.kind == LINK:
        return "is a link"
    if member.kind == OTHER:
        return "is neither file nor folder"
    if member.encrypted:
        return "needs a password"
    if member.size > LARGEST_MEMBER:
        return f"would become {member.size} bytes; {LARGEST_MEMBER} are allowed"
    return ""


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name.rstrip("/"))


def _listed(archive: zipfile.ZipFile) -> list[Member]:
    found = []
    for info in archive.infolist():
        mode = info.external_attr >> 16
        # orig_filename keeps the name as it stands: what zipfile makes of a NUL or a backslash is another one
        kind = FOLDER if info.is_dir() else REGULAR
        if stat.S_ISLNK(mode):
            kind = LINK
        elif stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            kind = OTHER
        found.append(Member(info.orig_filename, info.file_size, kind, bool(info.flag_bits & 1), info.CRC))
    return found


def open_zip(path: Path) -> zipfile.ZipFile:
    """Opens a ZIP whose members were judged.

    Raises:
        DataError: no ZIP, cut off, or refused
    """
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        said = " ".join(str(error).split())
        what = f"as a ZIP: {said}" if path.suffix.lower() == ".zip" else "as a RAR or a ZIP: it begins as neither"
        raise DataError(
            f"{path} cannot be read {what}; compare its size with the publisher's and fetch it again."
        ) from None
    judge(path, _listed(archive))
    return archive
