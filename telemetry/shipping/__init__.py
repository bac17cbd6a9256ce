"""Sends records to a logger or a recording, on the sender thread: of this trainer, and of dead trainers.

The only room of the client that imports zmq. May import ``protocol`` and ``telemetry.outbox``.
"""
