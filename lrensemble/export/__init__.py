"""A team to ship: exported, loaded, and asked about images; and soups, members that are averages of others."""

from lrensemble.export.card import Card
from lrensemble.export.ensemble import Ensemble
from lrensemble.export.write import export_team

__all__ = ["Card", "Ensemble", "export_team"]
