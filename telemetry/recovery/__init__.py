"""Finishes what dead trainers left: ships their outboxes, completes their recordings, tells what waits.

May import ``protocol``, ``telemetry.shipping`` and ``telemetry.outbox``.
"""
