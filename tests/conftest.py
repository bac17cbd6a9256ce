"""Settings for all tests."""

from hypothesis import settings

# How long an example takes is the machine's business; a hanging test ends by pytest's own timeout.
settings.register_profile("project", deadline=None)
settings.load_profile("project")
