"""Takes records from the outbox to a logger's socket or to a recording on disk, in the sender thread.

The one place of the client that imports zmq. May import ``protocol`` and ``telemetry.outbox``.
"""
