"""A run on land cover of several classes: the same loop, other scores. Its encoder is what is wanted of it."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from glidexp.errors import RunFailed
from glidexp.scoring.land_cover import class_iou, class_scores, confusion_of
from glidexp.training.augmentation.augment import Augment
from glidexp.training.evaluate import Evaluator
from glidexp.training.progress import scoring
from glidexp.training.record import Recorder


class ClassRecorder(Recorder):
    """Stands in for the `Recorder` where labels are classes: scores by class, no threshold, no lakes, no masks."""

    def augmented(self, augment: Augment, rows: npt.NDArray[np.int64]) -> None:
        """The picture of augmented tiles outlines lakes, of which there are none."""

    def val_scores(self, model: torch.nn.Module) -> dict[str, float]:
        """Scores on val."""
        return class_scores(confusion(self.val, model), self.tiles.classes, "val")

    def epoch(self, epoch: int, metrics: dict[str, float], model: torch.nn.Module, *, last: bool) -> None:
        """Logs an epoch's scores (step 1 is the first epoch)."""
        self.tracked.metrics(metrics, step=epoch + 1)

    def scored(self, model: torch.nn.Module) -> tuple[dict[str, float], dict[str, float | None]]:
        """Scores val and test and logs their confusion; nothing is fixed on val."""
        names, metrics = self.tiles.classes, dict[str, float]()
        tables: dict[str, Any] = {"classes": names}
        for split, evaluator in (("val", self.val), ("test", self.shared(self.tiles.rows("test")))):
            with scoring(evaluator, split):
                counted = confusion(evaluator, model)
            metrics |= class_scores(counted, names, split) | {f"tiles/{split}": float(len(evaluator.rows))}
            tables[split] = {"confusion": counted.tolist(), "iou": [_number(value) for value in class_iou(counted)]}
        self.tracked.text(json.dumps(tables, indent=1), "land_cover.json")
        return metrics, {}

    def validity(self, model: torch.nn.Module) -> None:
        """None: it is told of networks that map lakes."""

    def card(self, fixed: Mapping[str, float | None], metrics: Mapping[str, float]) -> tuple[dict[str, Any], bytes]:
        """As `Recorder.card`, with the classes, by which it is known that the network gives no lakes."""
        card, ground = super().card(fixed, metrics)
        card["architecture"]["classes"] = len(self.tiles.classes)
        return card | {"classes": self.tiles.classes}, ground


@torch.no_grad()
def confusion(evaluator: Evaluator, model: torch.nn.Module) -> npt.NDArray[np.int64]:
    """Pixels of the evaluator's tiles by true and predicted class, (K, K); read from the device once, at the end.

    Raises:
        RunFailed: the network gives values that are not numbers
    """
    device, classes = evaluator.runtime.device, len(evaluator.tiles.classes)
    counted = torch.zeros((classes, classes), dtype=torch.int64, device=device)
    wrong = torch.zeros((), dtype=torch.int64, device=device)
    for batch, logits in evaluator.answers(model):
        counted += confusion_of(logits, batch.label)
        wrong += logits.isnan().sum()
    if count := int(wrong.item()):
        raise RunFailed(
            f"the network gives NaN {count} times on {len(evaluator.rows)} tiles: lower optimizer.lr, or set "
            "train.precision=fp32."
        )
    found: npt.NDArray[np.int64] = counted.cpu().numpy()
    return found


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
