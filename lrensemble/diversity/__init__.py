"""Diversity of teams, exact at scale: metrics, focal diversity, and every team of a pool at once."""

from lrensemble.diversity.counts import Counts, count, error_patterns, predicted_labels
from lrensemble.diversity.focal import (
    EQ_METRICS,
    eq_scores,
    focal_diversity,
    focal_scores,
    fq_scores,
    scale_by_size,
)
from lrensemble.diversity.registry import METRICS, SIX, Metric, get_metric, register_diversity
from lrensemble.diversity.sweep import all_teams, team_votes
from lrensemble.diversity.team import diversity, diversity_scorer, pairwise, team_diversity
from lrensemble.diversity.teams import (
    MAX_LATTICE,
    all_masks,
    mask_of,
    masks_of_sizes,
    members_of,
    number_of_teams,
    to_indicators,
    to_masks,
)
from lrensemble.diversity.top import TeamScores, top_teams
from lrensemble.diversity.votes import VOTES

__all__ = [
    "EQ_METRICS",
    "MAX_LATTICE",
    "METRICS",
    "SIX",
    "VOTES",
    "Counts",
    "Metric",
    "TeamScores",
    "all_masks",
    "all_teams",
    "count",
    "diversity",
    "diversity_scorer",
    "eq_scores",
    "error_patterns",
    "focal_diversity",
    "focal_scores",
    "fq_scores",
    "get_metric",
    "mask_of",
    "masks_of_sizes",
    "members_of",
    "number_of_teams",
    "pairwise",
    "predicted_labels",
    "register_diversity",
    "scale_by_size",
    "team_diversity",
    "team_votes",
    "to_indicators",
    "to_masks",
    "top_teams",
]
