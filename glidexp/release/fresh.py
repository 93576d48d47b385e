"""Run in a process of its own: loads a bundle while unpickling is refused, and answers its probes. Prints JSON."""

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


def main(folder: Path) -> None:
    """Prints whether the weights, loaded so, agree with the probes."""
    import torch

    from glidexp.models.export import load_bundle  # noqa: F401 - libraries may unpickle their own at import
    from glidexp.release.agreement import weights_agree

    pickle.load = pickle.loads = refuse
    pickle.Unpickler = pickle._Unpickler = Refused  # type: ignore[misc, assignment]
    torch.load = refuse
    check = weights_agree(folder)
    print(json.dumps({"good": check.state == "passed", "sentence": check.sentence}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
