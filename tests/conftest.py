"""Settings that all tests share."""

from hypothesis import settings

# The same examples on every machine, and no clock in the verdict: these machines are slow at times.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")
