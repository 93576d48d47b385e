"""The model card: what a network is, how it was trained, on what ground, how good it is and where it fails.

Markdown first, for reading anywhere; the same as one HTML file with its pictures inside.
"""

import base64
import html
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from glidexp.models.card import GROUND, read_card
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


def markdown_of(
    folder: Path,
    name: str,
    *,
    report: Report,
    scores: Sequence[ScoreRow],
    settings: Mapping[str, str],
    cost: Mapping[str, float],
    created: str,
) -> str:
    """The card as Markdown.

    Args:
        folder: the bundle, with its card and pictures
        name: of the release
        report: what the gate found
        scores: from `card_scores.rows_of`
        settings: params of the run
        cost: hours, and kwh where the energy was measured
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
        _training(card, settings, cost),
        "## Ground",
        _ground(card, folder),
        "## Scores on test",
        _scores(scores),
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
        content = (folder / html.unescape(found[1])).read_bytes()
        return f'src="data:image/png;base64,{base64.b64encode(content).decode()}"'

    body = re.sub(r'src="(pictures/[^"]+)"', inside, body)
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{_STYLE}</style>'
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
    return said + f" With ONNX Runtime alone: `{'python example_onnx.py model.onnx probes/tile.npz out.npy'}`."


def _domain(card: Mapping[str, Any]) -> str:
    sensors = ", ".join(card.get("sensors") or ["unknown"])
    stretch = card.get("stretch")
    told = f"`{stretch}`" if stretch else "not known; tiles came as 8 bit"
    return (
        f"Sensors: {sensors}. Trained at {card.get('tile_px', 'unknown')} px a tile. Stretch from the sensor's values "
        f"to 0-255: {told}. Other sensors, another ground sampling distance, another stretch, or regions unlike those "
        "below are outside what was tested."
    )


def _training(card: Mapping[str, Any], settings: Mapping[str, str], cost: Mapping[str, float]) -> str:
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
    hours = cost.get("hours", 0.0)
    spent = f"Training and scoring took {hours:.2f} h on {settings.get('device', 'an unnamed device')}"
    if "kwh" in cost:
        carbon = cost["kwh"] * KG_CO2_A_KWH
        spent += f" and {cost['kwh']:.3f} kWh on its GPUs, {carbon:.3f} kg CO2 at the world's average of "
        spent += f"{KG_CO2_A_KWH} kg/kWh."
    else:
        spent += "; its energy was not measured, so no carbon is stated."
    return f"{', '.join(told)}; all settings in `config.yaml`.\n\n{spent}"


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
    return (
        f"Data set `{card.get('dataset', 'unknown')}` (split `{str(card.get('split_hash', 'unknown'))[:16]}`): {known}"
        f"{place}.{line}"
    )


def _scores(scores: Sequence[ScoreRow]) -> str:
    lines = ["| ground | score | value [95 %] | rests on |", "|---|---|---|---|"]
    lines += [f"| {row.ground} | {row.score} | {_value(row.interval)} | {row.basis} |" for row in scores]
    return (
        "\n".join(lines)
        + "\n\nScores are 0-100. Intervals are over the ground: other scenes, or other lakes, drawn anew."
    )


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
