"""Keys for tests: a logger's key folder, and trainers with or without permission."""

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
    """The logger's keys in ``logger``, trainers' keys in ``trainers``; ``let_in`` allows a trainer."""

    def __init__(self, folder: Path) -> None:
        self.logger, self.trainers = folder / "logger-keys", folder / "trainer-keys"
        self.server_public, _ = self._make(self.logger, SERVER_NAME)
        self.server_secret = self.logger / f"{SERVER_NAME}.key"
        self.server_key = self.logger / f"{SERVER_NAME}.pub"
        (self.logger / "allowed").mkdir(mode=0o700)

    def make_trainer(self, name: str = TRAINER, *, let_in: bool = True) -> ClientKeys:
        """Make a trainer's key pair; add the trainer to the allow-list unless ``let_in`` is false."""
        self._make(self.trainers, name)
        if let_in:
            self.let_in(name)
        return self.client_keys(name)

    def let_in(self, name: str = TRAINER) -> None:
        """Add a trainer to the allow-list."""
        allow(self.logger, name, read_public_key(self.trainers / f"{name}.pub"))

    def shut_out(self, name: str = TRAINER) -> None:
        """Remove a trainer from the allow-list."""
        revoke(self.logger, name)

    def client_key(self, name: str = TRAINER) -> Path:
        """Return the path of a trainer's secret key."""
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
