"""An outbox on disk: its place, its owner, its destination, and the delivery of outboxes whose trainer is gone.

The trainer that owns an outbox writes to the outbox. The next trainer, the logger and ``drain`` deliver orphans.
May import ``protocol`` and ``protocol.storage``.
"""
