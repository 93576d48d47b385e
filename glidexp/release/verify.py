"""`glidexp verify`: looks at a released bundle anywhere, without the store it came from."""

import json
from pathlib import Path

from glidexp.data.steps import shown_stage
from glidexp.errors import DataError
from glidexp.models.card import read_card
from glidexp.release.agreement import card_sizes, onnx_agrees, program_agrees, weights_agree
from glidexp.release.bundle import REPORT, SUMS, broken
from glidexp.release.no_pickle import no_pickle
from glidexp.release.report import Check, State, judged, made, skipped
from glidexp.wording import does, many

NAMES = ("no_pickle", "safetensors_agrees", "onnx_agrees", "torch_export_agrees", "gate")
"""of the checks after the one of the sums"""


def verify(folder: Path) -> list[Check]:
    """Checks the files against their sums first; only what is whole is loaded.

    Raises:
        DataError: it is no released bundle
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder: give the folder of a released bundle, which holds {SUMS}.")
    with shown_stage("check: sha256 of all files"):
        wrong = broken(folder)
    count = len((folder / SUMS).read_text(encoding="utf-8").splitlines())
    told = "; ".join(wrong[:5]) + (f" and {len(wrong) - 5} more" if len(wrong) > 5 else "")
    checks = [
        judged(
            "files",
            not wrong,
            f"{told}." if wrong else f"{many(count, 'file')} {does(count, 'have')} the sha256 of {SUMS}.",
        )
    ]
    if wrong:
        why = "the files are not those of the release."
        return checks + [skipped(name, why) for name in NAMES]
    card = read_card(folder)
    files = {
        "no pickle in any file": lambda: no_pickle(folder),
        "answers of the weights": lambda: weights_agree(folder),
        "answers of ONNX": lambda: onnx_agrees(folder),
        "answers of torch.export": lambda: program_agrees(folder, card_sizes(card)),
    }
    return [*checks, *made(files), _gate(folder)]


def _gate(folder: Path) -> Check:
    """What the gate said when it was released: a forced release is told, not refused."""
    try:
        report = json.loads((folder / REPORT).read_text(encoding="utf-8"))
        failed = [check["name"] for check in report["checks"] if check["state"] == State.failed]
        verdict, count = report["verdict"], len(report["checks"])
    except (OSError, ValueError, KeyError, TypeError):
        return judged("gate", False, f"{REPORT} is no report of a gate.")
    more = f" although these failed: {', '.join(failed)}" if failed else f", {many(count, 'check')}"
    return judged("gate", verdict in ("passed", "forced"), f"the gate's verdict was {verdict}{more}.")
