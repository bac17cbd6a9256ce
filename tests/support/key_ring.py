"""Keys for tests: a logger's folder, and trainers that are on its list or not."""

from pathlib import Path
from typing import Final

from tensorboard_sidecar.logger_service.access.allow_list import allow, revoke
from tensorboard_sidecar.logger_service.access.authenticator import make_key_pair
from tensorboard_sidecar.protocol.storage.key_files import (
    SERVER_NAME,
    ClientKeys,
    read_client_keys,
    read_public_key,
    write_key_pair,
)

TRAINER: Final = "gpu-box"


class KeyRing:
    """The logger's keys in ``logger``, those of trainers in ``trainers``; everybody is on the list who was let in."""

    def __init__(self, folder: Path) -> None:
        self.logger, self.trainers = folder / "logger-keys", folder / "trainer-keys"
        self.server_public, _ = self._make(self.logger, SERVER_NAME)
        self.server_secret = self.logger / f"{SERVER_NAME}.key"
        self.server_key = self.logger / f"{SERVER_NAME}.pub"
        (self.logger / "allowed").mkdir(mode=0o700)

    def make_trainer(self, name: str = TRAINER, *, let_in: bool = True) -> ClientKeys:
        """Make a trainer's pair, and let it in unless told otherwise."""
        self._make(self.trainers, name)
        if let_in:
            self.let_in(name)
        return self.client_keys(name)

    def let_in(self, name: str = TRAINER) -> None:
        """Put a trainer on the list."""
        allow(self.logger, name, read_public_key(self.trainers / f"{name}.pub"))

    def shut_out(self, name: str = TRAINER) -> None:
        """Take a trainer off the list."""
        revoke(self.logger, name)

    def client_key(self, name: str = TRAINER) -> Path:
        """Return the file of a trainer's secret key."""
        return self.trainers / f"{name}.key"

    def client_keys(self, name: str = TRAINER) -> ClientKeys:
        """Return a trainer's keys."""
        keys = read_client_keys(self.server_key, self.client_key(name))
        assert keys is not None
        return keys

    def _make(self, folder: Path, name: str) -> tuple[str, str]:
        public, secret = make_key_pair()
        write_key_pair(folder, name, public=public, secret=secret)
        return public, secret
