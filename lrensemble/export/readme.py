"""The model card of an exported team: its tables; the words are in ``readme.md.jinja``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from lrensemble.evaluation import Bill
from lrensemble.export.card import Card, MemberCard
from lrensemble.export.formats import input_name


def readme(card: Card) -> str:
    """Markdown text of ``README.md``."""
    shape, columns = card.preprocessing.input_shape, card.preprocessing.columns
    channels = shape[0] if shape else 1
    environment = Environment(
        loader=PackageLoader("lrensemble.export", ""), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("readme.md.jinja").render(
        card=card,
        name=input_name(shape),
        mode={1: "greyscale", 3: "RGB", 4: "RGBA"}.get(channels, f"{channels} channels (no image files)"),
        numbers=lambda values: ", ".join(f"{x:.6g}" for x in values),
        scores=_scores(card),
        abstention=_table(
            ["confidence at least", "answered %", "accuracy of the answers %"],
            [[f"{t:g}", f"{100 * share:.1f}", _percent(right)] for t, share, right in card.abstention],
        ),
        columns=_table(
            ["column", "values", "if missing"],
            [[c.name, ", ".join(c.categories) or "number", "-" if c.categories else f"{c.fill:.6g}"] for c in columns],
        ),
        members=_members(card),
        cost=_cost(card),
    )


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
                _percent(card.chance.get("test")),
                _bill(card),
            ]
        )
    accuracy, nll = card.validation.get("accuracy"), card.validation.get("nll")
    rows.append(
        [
            f"validation (n = {card.validation_rows:,}, on which it was chosen)",
            _percent(accuracy),
            "-" if nll is None else f"{nll:.4f}",
            _percent(card.chance.get("val")),
            _bill(card),
        ]
    )
    return _table(["split", "accuracy %", "NLL", "chance %", "trainings it needed, tuning included"], rows)


def _bill(card: Card) -> str:
    """As far as the evaluation knows it; older ones do not."""
    bill = card.test["score"].get("bill") if card.test else None
    return str(Bill(**bill)) if bill else "-"


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


def _total(members: Sequence[MemberCard], key: str) -> str:
    values: list[Any] = [getattr(member, key) for member in members]
    return "-" if any(value is None for value in values) else f"{sum(values):,.0f}"


def _cost(card: Card) -> str:
    both = (card.members, (card.single,))
    rows = [
        ["parameters", *(_total(m, "parameters") for m in both)],
        ["FLOPs per row", *(_total(m, "flops") for m in both)],
    ]
    rows += [[f"batch of {t.batch}", t.text("team"), t.text("single")] for t in card.timings]
    return _table(["", "team", f"best single member ({card.single.id})"], rows)
