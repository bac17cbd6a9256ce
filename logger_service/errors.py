"""The errors of the logger's start-up."""


class StartupError(RuntimeError):
    """A setting that cannot work; the message says what to do. Raised at start-up only."""
