"""Section ``scoring``: probabilities to events, and how events are scored."""

from brainbrr.config.base import Section


class Scoring(Section):
    """From window probabilities to seizure events."""
