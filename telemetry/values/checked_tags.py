"""Tags that were checked before, so that they are not checked every step."""

from collections.abc import Iterable

from tensorboard_sidecar.protocol.errors import TooLarge
from tensorboard_sidecar.protocol.limits import TAGS_MAX
from tensorboard_sidecar.protocol.names import check_tag


class CheckedTags(set[str]):
    """Never more than may be in one record: when all tags of a record are known, they are not too many."""

    def learn(self, tags: Iterable[str]) -> None:
        """Check tags and remember them. Raises Malformed or TooLarge."""
        new = set(map(check_tag, tags))
        if len(new) > TAGS_MAX:
            raise TooLarge("tags in one record", len(new), TAGS_MAX)
        if len(new) + len(self) > TAGS_MAX:
            self.clear()
        self |= new
