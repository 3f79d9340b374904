"""Names of the ways in which a team votes. What they mean is in `selection.votes`, which takes SciPy to say."""

from lrensemble.errors import UserError, did_you_mean

NAMES = ("soft", "logit", "plurality", "majority", "borda")
ALIASES = {"weighted": "soft", "average": "soft", "geometric": "logit", "rank": "borda"}


def canonical_vote(name: str) -> str:
    """The registered name of a vote or alias; `UserError` for an unknown one."""
    name = ALIASES.get(name, name)
    if name not in NAMES:
        raise UserError(f"unknown vote {name!r}: {did_you_mean(name, NAMES)}")
    return name
