"""Whether a folder is free of pickle, and loads in a process in which pickle is out of order."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

from glidexp.data.ready.members import open_zip
from glidexp.release.report import Check, judged
from glidexp.wording import many

SUFFIXES = (".pkl", ".pickle", ".pth", ".joblib", ".dill", ".bin")
HEADS = tuple(bytes([0x80, protocol]) for protocol in range(2, 6))
"""with which a pickle of protocols 2 to 5 begins"""
LONGEST_S = 600


def pickles_in(folder: Path) -> list[str]:
    """Files, and members of zip files, that are pickles by their name or by how they begin and end."""
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = str(path.relative_to(folder))
        if zipfile.is_zipfile(path):
            with open_zip(path) as held:  # refuses one that would unpack to far more than it is
                found += [f"{name}:{member}" for member in held.namelist() if _is_pickle(member, held.read(member))]
        elif _is_pickle(name, path.read_bytes()):
            found.append(name)
    return found


def _is_pickle(name: str, content: bytes) -> bool:
    return name.endswith(SUFFIXES) or (content[:2] in HEADS and content[-1:] == b".")


def no_pickle(folder: Path) -> Check:
    """Whether no file of the bundle is or holds a pickle."""
    found = pickles_in(folder)
    count = sum(path.is_file() for path in folder.rglob("*"))
    told = f"{', '.join(found[:3])} is pickled" if found else f"none of {many(count, 'file')} is or holds a pickle"
    return judged("no_pickle", not found, f"{told}.")


def loads_afresh(folder: Path) -> Check:
    """Loads the bundle in a process of its own in which unpickling raises, and has it answer the probes there."""
    name = "loads_in_a_fresh_process"
    command = [sys.executable, "-m", "glidexp.release.fresh", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST_S, check=False)
    except subprocess.TimeoutExpired:
        return judged(name, False, f"a fresh process did not load it within {LONGEST_S} s.")
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no word of why"])[-1]
        return judged(name, False, f"a fresh process, in which unpickling is refused, does not load it: {last[:300]}.")
    found = json.loads(done.stdout.strip().splitlines()[-1])
    return judged(name, found["good"], f"in a fresh process, in which unpickling is refused, {found['sentence']}")
