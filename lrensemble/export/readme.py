"""The model card of an exported team, in words and tables."""

from __future__ import annotations

from typing import Any

from lrensemble.export.card import Card, MemberCard

_LOAD = {
    "torch": """\
With plain torch ({torch} wrote it):

```python
import torch

team = torch.export.load("team.pt2").module()
images = torch.zeros(2, {shape})  # float32, not normalised; any number of images
probabilities = team(images)  # (2, {classes})
```
""",
    "onnx": """\
With onnxruntime:

```python
import numpy as np
import onnxruntime

team = onnxruntime.InferenceSession("team.onnx")
images = np.zeros((2, {shape}), dtype=np.float32)  # not normalised; any number of images
(probabilities,) = team.run(None, {{"images": images}})  # (2, {classes})
```
""",
    "safetensors": """\
`team.safetensors` holds the weights alone: the models are built by lrensemble (and by the modules of your own that
`team.json` names), then `Ensemble.load` fills them.
""",
}


def readme(card: Card) -> str:
    """Markdown text of ``README.md``."""
    shape = card.preprocessing.input_shape
    values = {"torch": card.torch, "shape": ", ".join(map(str, shape)), "classes": len(card.class_names)}
    parts = [
        f"# {card.name}: an ensemble of {len(card.members)} for {card.task}",
        f"Exported by lrensemble {card.version} on {card.created} from the pool `{card.pool}`. It takes images of "
        f"{shape[0]} x {shape[1]} x {shape[2]} (channels, height, width) and gives a probability for each of "
        f"{len(card.class_names)} classes.",
        "## How good it is",
        _scores(card),
        "## How to use it",
        "    lrensemble predict THIS_FOLDER IMAGES...",
        "From Python, as an `nn.Module` and as a scikit-learn classifier:",
        '```python\nfrom lrensemble import Ensemble\n\nteam = Ensemble.load("THIS_FOLDER")\n```',
        *(_LOAD[format].format(**values).rstrip() for format in card.checks),
        "## Input",
        _input(card),
        "Classes, in the order of the probabilities: " + ", ".join(card.class_names) + ".",
        "## Abstention",
        "Confidence is the highest probability. What abstaining below a threshold did on the validation split "
        f"(n = {card.validation_rows:,}; the team was chosen there, so a little better than it will be):",
        _table(
            ["confidence at least", "answered %", "accuracy of the answers %"],
            [
                [f"{t:g}", f"{100 * share:.1f}", "-" if right is None else f"{100 * right:.2f}"]
                for t, share, right in card.abstention
            ],
        ),
        "## Members",
        f"Vote: {card.vote}. Selector: {card.selector}, {card.teams_tried:,} teams tried on validation.",
        _members(card),
        "## Cost",
        _cost(card),
        "## Checked",
        _checks(card),
        "## Limits",
        _limits(card),
    ]
    return "\n\n".join(parts) + "\n"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"


def _scores(card: Card) -> str:
    rows = []
    if card.test:
        score = card.test["score"]
        low, high = score["accuracy_interval"]
        rows.append(
            [
                f"test (n = {card.test['rows']:,}, 95 % interval)",
                f"{_percent(score['accuracy'])} [{_percent(low)}, {_percent(high)}]",
                "-" if score["nll"] is None else f"{score['nll']:.4f}",
            ]
        )
    accuracy, nll = card.validation.get("accuracy"), card.validation.get("nll")
    rows.append(
        [
            f"validation (n = {card.validation_rows:,}, on which it was chosen)",
            _percent(accuracy),
            "-" if nll is None else f"{nll:.4f}",
        ]
    )
    text = _table(["split", "accuracy %", "NLL"], rows)
    if card.test:
        return f"{text}\n\nAgainst the best single member: {card.test['verdict']}."
    return f"{text}\n\nIt was not evaluated on the test split before the export (`lrensemble evaluate`)."


def _input(card: Card) -> str:
    p = card.preprocessing
    mode = {1: "greyscale", 3: "RGB", 4: "RGBA"}.get(p.input_shape[0], f"{p.input_shape[0]} channels (no image files)")
    what = f"{mode}, channels first"
    if p.dtype and p.range:
        what += f"; trained on {p.dtype} values from {p.range[0]:g} to {p.range[1]:g}"
    other = "converted" if p.convert else "refused unless converted on purpose (--convert)"
    size = "resized bilinearly, as for training" if p.resize else "refused unless resized on purpose (--resize)"
    mean, std = (", ".join(f"{x:.6g}" for x in xs) for xs in (p.mean, p.std))
    return (
        f"{what}. The graph normalises by itself (mean {mean}; deviation {std}): do not do it twice. In "
        f"`lrensemble predict`, images of another mode are {other}, images of another size are {size}."
    )


def _members(card: Card) -> str:
    rows = [
        [
            m.id,
            m.label,
            str(m.model),
            str(m.seed),
            f"{m.weight:.4f}",
            f"{m.temperature:.3g}",
            _percent(m.metrics.get("accuracy")),
        ]
        for m in card.members
    ]
    return _table(["member", "LR policy", "model", "seed", "weight", "temperature", "validation accuracy %"], rows)


def _total(members: tuple[MemberCard, ...], key: str) -> str:
    values: list[Any] = [getattr(member, key) for member in members]
    return "-" if any(value is None for value in values) else f"{sum(values):,.0f}"


def _cost(card: Card) -> str:
    both = (card.members, (card.single,))
    rows = [
        ["parameters", *(_total(m, "parameters") for m in both)],
        ["FLOPs per image", *(_total(m, "flops") for m in both)],
    ]
    rows += [[f"ms per batch of {t.batch}", f"{t.team_ms:.3g}", f"{t.single_ms:.3g}"] for t in card.timings]
    text = _table(["", "team", f"best single member ({card.single.id})"], rows)
    if card.timings:
        first = card.timings[0]
        text += f"\n\nThe fastest of many calls as {first.format} on {first.device}, at the export."
    return text


def _checks(card: Card) -> str:
    lines = []
    for format, check in card.checks.items():
        line = f"- {format}: {check.what}, {check.rows:,} rows, largest difference {check.largest_difference:.1e}"
        if check.undecided:
            line += (
                f"; beside {check.undecided:,} rows on which a member is undecided between two classes up to rounding, "
                f"where a {card.vote} vote jumps"
            )
        lines.append(line)
    return "\n".join(lines)


def _limits(card: Card) -> str:
    lines = [
        "- It knows its classes only and has no answer for anything else; a high probability is no proof that an image "
        "is one of them.",
        "- The numbers above hold for images like those of its data set (fingerprint "
        f"`{card.data_fingerprint}`), not for other cameras, sizes or units.",
    ]
    if not card.test:
        lines.append("- The validation numbers are of the rows that it was chosen on: they promise too much.")
    if card.vote in ("plurality", "majority", "borda"):
        lines.append(f"- The probabilities of a {card.vote} vote are shares of votes, not calibrated probabilities.")
    return "\n".join(lines)
