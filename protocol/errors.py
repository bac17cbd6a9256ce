"""The one error family of this package."""


class ProtocolError(Exception):
    """Bytes or values that break the protocol; nothing else escapes a parser."""


class Malformed(ProtocolError):
    """The bytes are not what the specification says."""


class UnsupportedVersion(ProtocolError):
    """A well-formed head of a version this program does not read."""

    def __init__(self, what: str, version: int, supported: int) -> None:
        super().__init__(f"{what}: version {version} came, this program reads version {supported}; upgrade it")
        self.version = version


class TooLarge(ProtocolError):
    """A size or count beyond its limit (see ``protocol.limits``)."""

    def __init__(self, what: str, size: int, limit: int) -> None:
        super().__init__(f"{what}: {size:,} is above the limit of {limit:,}")
        self.size = size
        self.limit = limit
