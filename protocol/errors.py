"""The error family of the protocol."""


class ProtocolError(Exception):
    """Bytes or values that break the protocol; parsers and checks raise no other exception."""


class Malformed(ProtocolError):
    """The bytes or values break a rule of the specification."""


class UnsupportedVersion(ProtocolError):
    """A valid head with a version that this program does not read."""

    def __init__(self, subject: str, version: int, supported: int) -> None:
        super().__init__(f"{subject}: version {version} came, this program reads version {supported}; upgrade it")


class TooLarge(ProtocolError):
    """A size or count beyond its limit (see ``protocol.limits``)."""

    def __init__(self, subject: str, size: int, limit: int) -> None:
        super().__init__(f"{subject}: {size:,} is above the limit of {limit:,}")
        self.size = size
        self.limit = limit
