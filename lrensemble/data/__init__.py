"""Data sets by name, with a stratified validation split and a fixed, fingerprinted row order."""

from lrensemble.data.dataset import Dataset, Split
from lrensemble.data.sources import SOURCES, load_dataset

__all__ = ["SOURCES", "Dataset", "Split", "load_dataset"]
