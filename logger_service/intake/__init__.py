"""From a socket, or an orphaned outbox on this machine, to the durable journal.

Never decodes a body and never draws. May import ``protocol``, ``access`` and ``folders``.
"""
