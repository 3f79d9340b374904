"""Recordings of event cameras: reading them, and the task of classifying them."""

from lrensemble.tasks.events.formats import READERS, read_events, write_events
from lrensemble.tasks.events.recording import Recording
from lrensemble.tasks.events.simulate import simulate
from lrensemble.tasks.events.task import EventTask, event_task, simulated_task

__all__ = ["READERS", "EventTask", "Recording", "event_task", "read_events", "simulate", "simulated_task",
           "write_events"]  # fmt: skip
