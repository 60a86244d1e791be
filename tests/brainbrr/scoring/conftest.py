"""Settings of hypothesis: a busy machine makes no example fail."""

from hypothesis import settings

settings.register_profile("brainbrr", deadline=None)
settings.load_profile("brainbrr")
