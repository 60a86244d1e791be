"""From window probabilities to seizure events and their scores. No torch, no files but results."""

from brainbrr.scoring.evaluation import Evaluation, evaluate_traces
from brainbrr.scoring.intervals import Event, Interval
from brainbrr.scoring.operating import OperatingPoint, OperatingPoints, search_thresholds
from brainbrr.scoring.postprocessing import find_events
from brainbrr.scoring.samples import SampleTally
from brainbrr.scoring.score import Score
from brainbrr.scoring.streaming import EventStream
from brainbrr.scoring.traces import Stitcher, Trace, Traces

__all__ = [
    "Evaluation",
    "Event",
    "EventStream",
    "Interval",
    "OperatingPoint",
    "OperatingPoints",
    "SampleTally",
    "Score",
    "Stitcher",
    "Trace",
    "Traces",
    "evaluate_traces",
    "find_events",
    "search_thresholds",
]
