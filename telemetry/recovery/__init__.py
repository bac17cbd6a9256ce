"""The commands status and drain: list and deliver the outboxes of dead trainers.

May import ``protocol`` and ``telemetry.shipping``.
"""
