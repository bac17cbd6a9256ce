"""Sends records from the outbox to a logger's socket or to a recording on disk, on the sender thread.

The only room of the client that imports zmq. May import ``protocol`` and ``telemetry.outbox``.
"""
