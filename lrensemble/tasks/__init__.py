"""Tasks by name: rows of three splits in a fixed, fingerprinted order, and what a batch of them means."""

from lrensemble.tasks.arrays import ArrayTask
from lrensemble.tasks.dataset import Images, Split
from lrensemble.tasks.load import load_task, register_task
from lrensemble.tasks.sources import SOURCES, load_images
from lrensemble.tasks.task import Batch, Task

__all__ = ["SOURCES", "ArrayTask", "Batch", "Images", "Split", "Task", "load_images", "load_task", "register_task"]
