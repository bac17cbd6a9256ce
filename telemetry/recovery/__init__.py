"""Delivers the outboxes of dead trainers: background work of the next trainer, and the commands status and drain.

May import ``protocol``, ``telemetry.shipping`` and ``telemetry.outbox``.
"""
