"""Run in a process of its own: loads a bundle while unpickling is refused, and answers its probes. Prints JSON."""

import _pickle
import json
import pickle
import sys
from pathlib import Path
from typing import Any, NoReturn


def refuse(*_: Any, **__: Any) -> NoReturn:
    """Stands where pickle loaded."""
    raise pickle.UnpicklingError("something was to be unpickled")


class Refused:
    """Stands where the class was, of which libraries derive their own as they are imported."""

    def __init__(self, *_: Any, **__: Any) -> None:
        refuse()


def heard(event: str, _: Any) -> None:
    """An audit hook: whichever way a pickle is read, by a name that was taken before too, it asks for its classes."""
    if event == "pickle.find_class":
        refuse()


def forbid() -> None:
    """From now on nothing is unpickled in this process; there is no way back."""
    for module in (pickle, _pickle):
        module.load = module.loads = refuse  # type: ignore[attr-defined]
        module.Unpickler = Refused  # type: ignore[attr-defined]
    pickle._load = pickle._loads = refuse  # type: ignore[attr-defined]
    pickle._Unpickler = Refused  # type: ignore[misc, assignment]
    sys.addaudithook(heard)


def main(folder: Path) -> None:
    """Prints whether the weights, loaded so, agree with the probes."""
    import torch

    from glidexp.release.agreement import weights_agree  # before: libraries may unpickle their own as they are imported

    forbid()
    torch.load = refuse
    check = weights_agree(folder)
    print(json.dumps({"good": check.state == "passed", "sentence": check.sentence}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
