"""A helper shows the recordings of ``SummaryWriter``: the place of its files, and the messages on its socket.

May import ``protocol``, ``protocol.storage`` and ``protocol.outbox``.
"""
