"""Recordings: EDF files in microvolts, their seizures, and the layouts of the corpora."""

from brainbrr.recordings.corpus import Corpus, open_corpus, scan_corpus
from brainbrr.recordings.edf import read_recording
from brainbrr.recordings.types import Annotation, Located, Recording, Seizure, Skipped

__all__ = [
    "Annotation",
    "Corpus",
    "Located",
    "Recording",
    "Seizure",
    "Skipped",
    "open_corpus",
    "read_recording",
    "scan_corpus",
]
