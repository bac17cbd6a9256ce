"""An outbox on disk, as every reader sees it: where it lies, who owns it, where its records go.

The trainer that owns an outbox writes it; the next trainer, the logger and ``drain`` read what a dead trainer left.
May import ``protocol`` and ``protocol.storage``.
"""
