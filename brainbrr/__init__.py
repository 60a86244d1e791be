"""Train seizure detectors on scalp EEG: EDF recordings in, seizure events out."""

__version__ = "0.1.0"
