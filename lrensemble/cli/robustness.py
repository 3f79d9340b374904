"""What holds when something changes. The networks of a pool's members run again for it (evaluate reads files only).

Without options: accuracy on corrupted test rows (images, or recordings of event cameras), and the loss on test minus
that on train. --ood asks whether teams are less sure about another data set. --lr-scales trains members again with
their learning rates multiplied, into the pool POOL/lr_scales. Results are also written to POOL/robustness.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lrensemble.cli import output
from lrensemble.cli.options import add_devices
from lrensemble.errors import UserError

if TYPE_CHECKING:
    from lrensemble.metrics import Auroc
    from lrensemble.pool import Pool
    from lrensemble.robustness import Corrupted, Detection, LossDifference, LrRobustness

HELP = "corrupted and foreign images, loss difference, other base LRs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pool", metavar="POOL", help="folder of a pool")
    parser.add_argument("--team", metavar="NAME", nargs="+", action="extend", help="one or more (default: all teams)")
    parser.add_argument(
        "--corruption",
        action="store_true",
        help="noise, blur and shift of the test images; events dropped, jittered and added",
    )
    parser.add_argument("--loss-difference", action="store_true", help="test loss - train loss of members and teams")
    parser.add_argument(
        "--ood", metavar="NAME[:ROOT]", action="append", default=[], help="another data set, e.g. npz:other.npz"
    )
    parser.add_argument("--lr-scales", action="store_true", help="train with multiples of the LR: the best member")
    parser.add_argument("--member", metavar="ID", nargs="+", action="extend", help="for --lr-scales: these, or all")
    parser.add_argument("--factors", metavar="X,Y", help="for --lr-scales (default: 0.1,0.5,1,5,10)")
    add_devices(parser)
    parser.add_argument(
        "--workers", metavar="N", type=output.whole(1, output.MOST), help="for --lr-scales: runs at a time"
    )
    output.add_trust(parser)
    output.add_format(parser)


def run(args: argparse.Namespace) -> int:
    from lrensemble.pool import Pool

    pool = Pool.open(args.pool)
    for option in ("member", "factors", "workers"):
        if getattr(args, option) is not None and not args.lr_scales:
            raise UserError(f"--{option} is for --lr-scales")
    results: dict[str, Any] = {}
    if args.lr_scales:
        results["lr_scales"] = _lr_scales(pool, args)
    sections = _sections(args)
    if sections:
        results |= _with_networks(pool, args, sections)
    _write(pool, results)
    if args.format == "json":
        output.print_json({"pool": str(pool.path), **results})
        return 0
    printers: dict[str, Callable[[Any, str], None]] = {
        "lr_scales": _print_lr,
        "corruption": _print_corruption,
        "ood": _print_ood,
        "loss": _print_loss,
    }
    team = _spoken_of(pool, {row.name for name, rows in results.items() if name != "lr_scales" for row in rows})
    for name, rows in results.items():
        printers[name](rows, team)
    return 0


def _spoken_of(pool: Pool, names: set[str]) -> str:
    """The team of the answers: of those that take part the one to use; "" where none does."""
    from lrensemble.pool import best_team

    teams = [pool.team(name) for name in pool.team_names if name in names]
    best = best_team(teams) or next(iter(teams), None)
    return best.name if best else ""


def _sections(args: argparse.Namespace) -> list[str]:
    asked = {"corruption": args.corruption, "ood": args.ood, "loss": args.loss_difference}
    nothing = not any(asked.values()) and not args.lr_scales
    return ["corruption", "loss"] if nothing else [name for name, wanted in asked.items() if wanted]


def _with_networks(pool: Pool, args: argparse.Namespace, sections: list[str]) -> dict[str, Any]:
    from lrensemble.robustness import corruption, loss_difference, out_of_distribution
    from lrensemble.robustness.networks import networks

    names = [name for word in args.team for name in word.split(",") if name] if args.team else None
    results: dict[str, Any] = {}
    with output.working("running the networks of the pool"):
        teams = networks(pool, names, device=args.devices, trust=args.trust)
        if "corruption" in sections:
            results["corruption"] = corruption(teams)
        if "ood" in sections:
            results["ood"] = [row for text in args.ood for row in out_of_distribution(teams, text)]
        if "loss" in sections:
            results["loss"] = loss_difference(
                networks(pool, names, device=args.devices, everyone=True, trust=args.trust)
            )
    return results


def _lr_scales(pool: Pool, args: argparse.Namespace) -> list[LrRobustness]:
    from lrensemble.cli.progress import progress
    from lrensemble.robustness import lr_robustness, train_scaled
    from lrensemble.robustness.base_lr import FACTORS, unfinished

    factors = _factors(args.factors) if args.factors else FACTORS
    if args.member and "all" in args.member:
        members = [member for member in pool.runs if member.record.status == "complete"]
    elif args.member:
        members = [pool.find(member_id) for word in args.member for member_id in word.split(",") if member_id]
    else:
        members = [best] if (best := pool.best_run()) else []
    if not members:
        raise UserError(f"{pool.path} has no complete run of lrensemble train to train again")
    options = {"devices": args.devices, "workers": args.workers, "watcher": progress()}
    train_scaled(pool, members, factors, trust=args.trust, **options)
    found = lr_robustness(pool, members, factors)
    if missing := unfinished(found):
        output.note(f"{missing} runs failed: lrensemble ls {pool.path / 'lr_scales'} says why")
    return found


def _factors(text: str) -> list[float]:
    try:
        return list(dict.fromkeys(map(output.real(1e-6, 1e6), text.split(","))))
    except argparse.ArgumentTypeError as error:
        raise UserError(f"--factors {text}: {error}; with commas, for example 0.1,0.5,1,5,10") from None


def _write(pool: Pool, results: dict[str, Any]) -> None:
    from lrensemble.pool.files import now, write_json

    for name, rows in results.items():
        write_json(pool.path / "robustness" / f"{name}.json", {"created": now(), "rows": rows})


def _print_corruption(rows: list[Corrupted], team: str) -> None:
    by_team: dict[str, list[Corrupted]] = {}
    for row in rows:
        by_team.setdefault(row.name, []).append(row)
    single, *others = by_team
    gains = [row.accuracy_gain for row in by_team.get(team, ()) if row.level and row.accuracy_gain]
    if gains:
        better, worse = (sum(gain.direction == sign for gain in gains) for sign in (1, -1))
        means = [sum(100 * row.accuracy for row in by_team[name] if row.level) / len(gains) for name in (team, single)]
        output.say(
            f"On corrupted rows team {team} has {means[0]:.2f} % of test right, the best single member {means[1]:.2f} "
            f"% (means of {len(gains)} corruptions); better is shown for {better} of them, worse for {worse}"
        )
    columns = ["<team", *(f"{row.corruption} {row.level or ''}".strip() for row in by_team[single])]
    output.print_table(
        f"Accuracy % on corrupted test rows (n = {rows[0].rows:,}), three levels each",
        columns,
        [[name, *(output.percent(row.accuracy) for row in some)] for name, some in by_team.items()],
        "At 50 % and this n, the 95 % interval is "
        f"± {196 * (0.25 / rows[0].rows) ** 0.5:.2f} points; all intervals are in --format json.",
    )
    output.print_table(
        "Points over the best single member on the same rows",
        columns,
        [[name, *(_marked(row) for row in by_team[name])] for name in others],
        "* shown: the paired 95 % interval excludes 0, and McNemar's test agrees (each alone, not as one of many).",
    )


def _marked(row: Corrupted) -> str:
    gain = row.accuracy_gain
    return "-" if gain is None else f"{gain.value:+.2f}{'*' if gain.direction else ' '}"


def _print_ood(rows: list[Detection], team: str) -> None:
    single = rows[0].name
    for data in dict.fromkeys(row.data for row in rows):
        found = {row.name: row.max_probability for row in rows if row.data == data}
        if team in found:
            output.say(
                f"Team {team} tells images of {data} from its own with AUROC {_auroc(found[team])} %, the best single "
                f"member with {_auroc(found[single])} % (50: chance; by max probability)"
            )
    output.print_rows(
        "Telling foreign from own test images by uncertainty: AUROC % with 95 % intervals (50: chance)",
        [
            {
                "<data": row.data,
                "<team": row.name,
                "own": f"{row.own_rows:,}",
                "foreign": f"{row.foreign_rows:,}",
                "max probability": _auroc(row.max_probability),
                "entropy": _auroc(row.entropy),
            }
            for row in rows
        ],
    )


def _auroc(found: Auroc) -> str:
    return f"{output.percent(found.value)} [{output.percent(found.low)}, {output.percent(found.high)}]"


def _print_loss(rows: list[LossDifference], team: str) -> None:
    members = [row for row in rows if row.policy is not None]
    said = [f"team {row.name} by {row.loss_difference:.4f}" for row in rows if row.name == team]
    low, high = min(row.loss_difference for row in members), max(row.loss_difference for row in members)
    said.append(
        f"its {len(members)} members by {low:.4f} to {high:.4f}" if said else f"members by {low:.4f} to {high:.4f}"
    )
    output.say(f"NLL is higher on test than on train: {', '.join(said)} nats")
    output.print_table(
        f"Loss difference: NLL on test (n = {rows[0].test_rows:,}) minus NLL on train (n = {rows[0].train_rows:,})",
        ["<member or team", "<policy", "train NLL", "test NLL", "difference", "train %", "test %"],
        [
            [
                row.name,
                row.policy or "",
                *(output.number(value) for value in (row.train_nll, row.test_nll, row.loss_difference)),
                output.percent(row.train_accuracy),
                output.percent(row.test_accuracy),
            ]
            for row in rows
        ],
        "Of the final weights, on rows without augmentation.",
    )


def _print_lr(rows: list[LrRobustness], team: str) -> None:
    factors = list(rows[0].accuracies)
    steady = min(rows, key=lambda row: float("inf") if row.spread is None else row.spread)
    kept = "diverges or fails with some of them" if steady.spread is None else f"changes by {steady.spread:.2f} points"
    output.say(
        f"{steady.policy}: validation accuracy {kept} with the LR x {', '.join(factors)} (n = {steady.rows:,})"
        + (f"; the steadiest of {len(rows)}" if len(rows) > 1 else "")
    )
    output.print_table(
        f"Base-LR robustness: validation accuracy % (n = {rows[0].rows:,}) with the LR multiplied",
        ["<member", "<policy", *(f"x {factor}" for factor in factors), "spread", "worst"],
        [
            [
                row.member,
                row.policy,
                *(
                    output.percent(row.accuracies[factor]) if row.accuracies[factor] is not None else status
                    for factor, status in row.statuses.items()
                ),
                "-" if row.spread is None else f"{row.spread:.2f}",
                output.percent(row.worst),
            ]
            for row in rows
        ],
        "x 1 is the pool's own member; the others have other initialisations too. spread in points; none where a run "
        "diverged.",
    )
