"""Pools on disk: the contract between training and everything that comes after it."""

from lrensemble.pool.member import Member
from lrensemble.pool.pool import Pool
from lrensemble.pool.predictions import Predictions
from lrensemble.pool.record import Header, MemberSpec, Named, Record, RunSpec, Training
from lrensemble.pool.team import Team, best_team

__all__ = [
    "Header",
    "Member",
    "MemberSpec",
    "Named",
    "Pool",
    "Predictions",
    "Record",
    "RunSpec",
    "Team",
    "Training",
    "best_team",
]
