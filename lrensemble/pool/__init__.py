"""Pools on disk: the contract between training and everything that comes after it."""

from lrensemble.pool.member import Member
from lrensemble.pool.pool import Pool
from lrensemble.pool.predictions import Predictions
from lrensemble.pool.record import MemberSpec, Named, Record, RunSpec, Task, Training
from lrensemble.pool.team import Team

__all__ = ["Member", "MemberSpec", "Named", "Pool", "Predictions", "Record", "RunSpec", "Task", "Team", "Training"]
