"""Hypothesis: no deadlines here, since a busy machine is no fault of what is tested."""

from hypothesis import settings

settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")
