"""The version of the package, where all rooms can read it."""

from typing import Final

VERSION: Final = "0.1.0"
