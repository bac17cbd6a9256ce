"""A cache of valid tags, so that a loop's tags are not checked at each step."""

from collections.abc import Iterable

from tensorboard_sidecar.protocol.errors import TooLarge
from tensorboard_sidecar.protocol.limits import TAGS_MAX
from tensorboard_sidecar.protocol.names import check_tag


class CheckedTags(set[str]):
    """A set of valid tags of at most TAGS_MAX entries: a record whose tags are all in the set is within that limit."""

    def learn(self, tags: Iterable[str]) -> None:
        """Check tags and add them; clear the set first if it would exceed TAGS_MAX. Raises Malformed or TooLarge."""
        new = set(map(check_tag, tags))
        if len(new) > TAGS_MAX:
            raise TooLarge("tags in one record", len(new), TAGS_MAX)
        if len(new) + len(self) > TAGS_MAX:
            self.clear()
        self |= new
