"""The model card: what a network is, how it was trained, on what ground, how good it is and where it fails.

Markdown first, for reading anywhere; the same as one HTML file with its pictures inside.
"""

import base64
import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glidexp.config import Embed
from glidexp.data.scenes.dem import meaning
from glidexp.models.card import GROUND, read_card
from glidexp.models.told import told_of
from glidexp.release.bundle import PICTURES
from glidexp.release.card_scores import Interval, ScoreRow
from glidexp.release.report import Report

PAGE, WEB = "MODEL_CARD.md", "model_card.html"
KG_CO2_A_KWH = 0.473
"""world average of electricity in 2024. Source: Ember, Global Electricity Review 2025"""
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b2733}"
    "table{border-collapse:collapse;margin:1rem 0}td,th{border-bottom:1px solid #cdd6de;padding:.25rem .75rem;"
    "text-align:left}img{max-width:100%}code{background:#eef2f5;padding:0 .2rem}"
)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a training took, as far as it is known."""

    hours: float | None
    """from its beginning to its end"""
    breaks: int
    """how often it was interrupted in between"""
    kwh: float | None
    """of the GPUs; None where it was not measured"""
    device: str


def markdown_of(
    folder: Path,
    name: str,
    *,
    report: Report,
    scores: Sequence[ScoreRow],
    settings: Mapping[str, str],
    cost: Cost,
    ground: str,
    created: str,
) -> str:
    """The card as Markdown.

    Args:
        folder: the bundle, with its card and pictures
        name: of the release
        report: what the gate found
        scores: from `card_scores.rows_of`
        settings: params of the run
        cost: what the training took
        ground: on which it was scored, in words
        created: when, in UTC
    """
    card = read_card(folder)
    shape = card["architecture"]
    parts = [
        f"# {name}",
        f"Finds lakes in satellite images: a {shape['backbone']} encoder with a {shape['decoder']} decoder, "
        f"{card['parameters'] / 1e6:.2f} M parameters. Released {created[:10]} from run "
        f"`{card.get('run_id', 'unknown')}` (config `{card.get('config_id', 'unknown')}`).",
        f"Chosen because {report.chosen}",
        "## Use",
        _use(card),
        "## Domain of validity",
        _domain(card),
        "## How it was trained",
        _training(settings, cost),
        "## Ground",
        _ground(card, folder),
        "## Scores on test",
        _scores(scores, ground),
        "## Where it fails",
        _failures(folder, scores),
        "## What was checked",
        _checks(report),
        "## Licence and citation",
        f"Licence: {card.get('license') or '**not given**'}",
        f"Please cite: {card.get('citation') or '**not given**'}",
    ]
    return "\n\n".join(parts) + "\n"


def html_of(markdown: str, folder: Path, title: str) -> str:
    """The card as one HTML file: its pictures are inside."""
    from markdown_it import MarkdownIt

    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown)

    def inside(found: "re.Match[str]") -> str:
        content = (folder / "pictures" / found[1]).read_bytes() if found[1] in PICTURES else b""
        return f'src="data:image/png;base64,{base64.b64encode(content).decode()}"'

    # names of regions, sensors and data sets are others': what they say in Markdown brings in no file and no address
    body = re.sub(r'src="pictures/([^"]+)"', inside, body)
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    head = f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{policy}">'
    head += f"<title>{html.escape(title)}</title><style>{_STYLE}</style>"
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>\n'


def _use(card: Mapping[str, Any]) -> str:
    bands = ", ".join(card.get("bands") or ["not named"])
    said = (
        f"Input: pixel values 0-255 of the bands {bands}, in this order, any size. Output: probability of lake for "
        f"each pixel; a pixel counts as lake from **{float(card.get('threshold', 0.5)):.4f}** on, the threshold that "
        "was best on val."
    )
    if temperature := card.get("temperature"):
        said += f" For calibrated probabilities use sigmoid(logit / {float(temperature):.3f})."
    if terrain := card.get("terrain"):
        said += f" {meaning(terrain)}"
    return said + _told(card) + " With ONNX Runtime alone: `python example_onnx.py model.onnx probes/tile.npz out.npy`."


def _told(card: Mapping[str, Any]) -> str:
    """What the scores were made with and the graphs do not get: a distance that is brought about, words on an image."""
    told, said = told_of(card), ""
    graphs = "`model.onnx`, `model.pt2` and arrays given to MLflow's model"
    if told.gsd_m:
        said += (
            f" The network sees every image at **{told.gsd_m:g} m** a pixel. `glidexp predict` and the scores below "
            f"bring it there; {graphs} are taken as they are, so bring them to that size first."
        )
    if told.learnt:
        what = "ground sample distance" if told.kind is Embed.gsd else "sensor"
        said += (
            f" It is told the {what} of an image by `glidexp predict` and for the scores below, and nothing by "
            f"{graphs}, whose answers are those to an image of which that is not known."
        )
    return said


def _domain(card: Mapping[str, Any]) -> str:
    sensors = ", ".join(card.get("sensors") or ["unknown"])
    sizes = card.get("gsd_m") or {}
    pixels = ", ".join(f"{name} {_between(low, high)} m" for name, (low, high) in sizes.items()) or "not known"
    regions = ", ".join(card.get("regions") or ["unknown"])
    return (
        f"Sensors: {sensors}. Size of a pixel: {pixels}. Regions: {regions}. Trained at "
        f"{card.get('tile_px', 'unknown')} px a tile.\n\nStretch from the sensor's values to 0-255: {_stretch(card)}."
        "\n\nOther sensors, another ground sampling distance, another stretch, or regions unlike these are outside "
        "what was tested."
    )


def _between(low: float, high: float) -> str:
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _stretch(card: Mapping[str, Any]) -> str:
    """How limits are found, and for what the card has some, as `glidexp predict` uses them."""
    told = card.get("stretch")
    if not told:
        return "not recorded, as the training data came as 8 bit; a scene of other values is fitted to itself"
    method, scope, many = told.get("method", "unknown"), told.get("scope", "scene"), len(told.get("limits") or {})
    if method == "fixed":
        return "the fixed limits in `card.json`, for every scene"
    said = f"{method} {told['low']:g} to {told['high']:g}" if {"low", "high"} <= told.keys() else str(method)
    if scope == "scene":
        return f"{said} of each scene's own values; `card.json` holds the limits of the {many} scenes of the data set"
    whose = "all scenes together" if scope == "global" else f"each {scope}"
    return f"{said} of {whose}; the limits are in `card.json`"


def _training(settings: Mapping[str, str], cost: Cost) -> str:
    keys = (
        "init.kind",
        "loss",
        "optimizer",
        "optimizer.lr",
        "augmentation",
        "train.epochs",
        "train.batch_size",
        "seed",
    )
    told = [f"`{key}={settings[key]}`" for key in keys if key in settings]
    return f"{', '.join(told)}; all settings in `config.yaml`.\n\n{_spent(cost)}"


def _spent(cost: Cost) -> str:
    if cost.hours is None:
        told = f"How long it took on {cost.device} is not known."
    elif cost.breaks:
        times = "once" if cost.breaks == 1 else f"{cost.breaks} times"
        told = f"From its first beginning to its end {cost.hours:.3f} h passed on {cost.device}; it was interrupted "
        told += f"{times} in between, so how long it computed is not known."
    else:
        told = f"Training and scoring took {cost.hours:.3f} h on {cost.device}."
    if cost.kwh is None:
        return f"{told} Its energy was not measured, so no carbon is stated."
    carbon = cost.kwh * KG_CO2_A_KWH
    return (
        f"{told} The GPUs of its machine drew {cost.kwh:.3f} kWh in that time (processors and memory are not in it): "
        f"{carbon:.3f} kg CO2 at the world's average of {KG_CO2_A_KWH} kg/kWh."
    )


def _ground(card: Mapping[str, Any], folder: Path) -> str:
    entry = card.get("ground") or {}
    known = f"{entry.get('train', 'unknown')} training tiles and {entry.get('val', 'unknown')} val tiles"
    place = f", each listed in `{GROUND}`" if (folder / GROUND).is_file() else ", places not known"
    ancestors = len(card.get("ancestors") or [])
    line = (
        f" It descends from {ancestors} earlier network{'s' * (ancestors > 1)}, whose ground counts too."
        if ancestors
        else ""
    )
    if unlabelled := (card.get("self_training") or {}).get("tiles"):
        line += (
            f" {unlabelled} of the training tiles were learnt from without their labels: the network that it started "
            "from gave labels to those of their pixels of which it was surest (self-training)."
        )
    if style := card.get("style"):
        named = [f"{key} {', '.join(style[key])}" for key in ("regions", "sensors") if style.get(key)]
        line += (
            f" With probability {style.get('p', 0):g} a training tile took on the look of one of "
            f"{' and '.join(named)}, of which no label was read (Fourier domain adaptation)."
        )
    return (
        f"Data set `{card.get('dataset', 'unknown')}` (split `{str(card.get('split_hash', 'unknown'))[:16]}`): {known}"
        f"{place}.{line}"
    )


def _scores(scores: Sequence[ScoreRow], ground: str) -> str:
    lines = ["| ground | score | value [95 %] | rests on |", "|---|---|---|---|"]
    lines += [f"| {row.ground} | {row.score} | {_value(row.interval)} | {row.basis} |" for row in scores]
    said = f"On {ground}. Scores are 0-100. Intervals are for other ground of the same kind; of lakes found "
    said += "they are Wilson's, with as many lakes as tell as much as those of so many scenes do."
    return "\n".join(lines) + f"\n\n{said}"


def _value(interval: Interval) -> str:
    value, low, high = (100 * number for number in (interval.value, interval.low, interval.high))
    return f"{value:.2f} [{low:.2f}, {high:.2f}]" if low == low else f"{value:.2f} [not known]"


def _failures(folder: Path, scores: Sequence[ScoreRow]) -> str:
    strata = [row for row in scores if row.stratum]
    parts = []
    if strata:
        worst = min(strata, key=lambda row: row.interval.value)
        parts.append(f"Least on {worst.ground}: {worst.score} {_value(worst.interval)} ({worst.basis}).")
    shown = [name for name in PICTURES if (folder / "pictures" / name).is_file()]
    parts += [f"{PICTURES[name]}:\n\n![{PICTURES[name]}](pictures/{name})" for name in shown]
    return "\n\n".join(parts) or "The run left no pictures and no scores by region or sensor."


def _checks(report: Report) -> str:
    lines = [f"The gate's verdict: **{report.verdict}**.", "", "| check | | |", "|---|---|---|"]
    lines += [f"| {check.name} | {check.state} | {check.sentence.replace('|', '/')} |" for check in report.checks]
    return "\n".join(lines)
