"""What the logger raises at start-up."""


class StartupError(RuntimeError):
    """A setting that cannot work, with what to do about it; raised at start-up only."""
