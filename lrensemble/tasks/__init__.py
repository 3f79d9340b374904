"""Tasks by name: rows of three splits in a fixed, fingerprinted order, and what a batch of them means."""

from lrensemble.tasks.arrays import ArrayTask
from lrensemble.tasks.dataset import Dataset, Split
from lrensemble.tasks.load import load_task, register_task
from lrensemble.tasks.sources import SOURCES, load_dataset
from lrensemble.tasks.task import Batch, Task

__all__ = ["SOURCES", "ArrayTask", "Batch", "Dataset", "Split", "Task", "load_dataset", "load_task", "register_task"]
