"""Archives written where a test wants them: ZIP by the standard library, and RAR5 with stored members, by hand.

Source of the RAR5 layout: https://www.rarlab.com/technote.htm. A block is CRC-32, size, type, flags and its fields,
numbers as seven bits a byte.
"""

import zipfile
import zlib
from pathlib import Path

SIGNATURE = b"Rar!\x1a\x07\x01\x00"
MAIN, FILE, END = 1, 2, 5
STORED, BEST = 0, 5 << 7


def vint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def block(kind: int, fields: bytes, data: bytes | None = None, extra: bytes = b"") -> bytes:
    flags = (1 if extra else 0) | (2 if data is not None else 0)
    head = vint(kind) + vint(flags) + (vint(len(extra)) if extra else b"")
    head += (vint(len(data)) if data is not None else b"") + fields + extra
    head = vint(len(head)) + head
    return zlib.crc32(head).to_bytes(4, "little") + head + (data or b"")


def rar_file(name: str, content: bytes, *, method: int = STORED, link: str = "", size: int | None = None) -> bytes:
    """A member. A link is a redirection record: Unix symbolic link to `link`."""
    fields = vint(4) + vint(len(content) if size is None else size) + vint(0o100644)
    fields += zlib.crc32(content).to_bytes(4, "little") + vint(method) + vint(1) + vint(len(name.encode()))
    extra = b""
    if link:
        record = vint(5) + vint(1) + vint(0) + vint(len(link)) + link.encode()
        extra = vint(len(record)) + record
    return block(FILE, fields + name.encode(), content, extra)


def write_rar(path: Path, files: dict[str, bytes], *, more: bytes = b"") -> Path:
    """A RAR5 with stored members; `more` are blocks of one's own."""
    members = b"".join(rar_file(name, content) for name, content in files.items())
    path.write_bytes(SIGNATURE + block(MAIN, vint(0)) + members + more + block(END, vint(0)))
    return path


def write_zip(path: Path, files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def contents(folder: Path, prefix: str = "") -> dict[str, bytes]:
    """Files below a folder by their path from it."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {prefix + file.relative_to(folder).as_posix(): file.read_bytes() for file in files}
