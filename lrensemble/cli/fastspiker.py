"""The policy that trains a spiking network fastest: `lrensemble fastest` with FastSpiker's baseline and LRs.

The baseline is STEP from 1e-3, halved after every tenth of the budget, and constant LRs from 1e-4 to 3e-2 are tried
first, as too high an LR silences a network for good (Bano et al. 2024, arXiv 2407.05262). `--baseline` and `--lrs`
change that.
"""

from __future__ import annotations

import argparse

from lrensemble.cli import fastest

HELP = "lrensemble fastest for spiking networks on events"
add_arguments = fastest.add_arguments


def run(args: argparse.Namespace) -> int:
    from lrensemble.errors import UserError
    from lrensemble.recommend.fastest_trials import PAPER, SPIKING_LRS
    from lrensemble.tasks.events.task import EVENTS
    from lrensemble.training import load_config

    config = load_config(args.config, args.overrides)
    if config.data.name not in EVENTS:
        raise UserError(f"data = {config.data.name}: fastspiker is for events; lrensemble fastest is for all data")
    return fastest.find(args, config, args.baseline or PAPER, args.lrs or SPIKING_LRS)
