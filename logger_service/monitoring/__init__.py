"""The state of a running logger: status, health page, metrics.

May import the logger's config, counters and errors, and the rooms whose counters it reads: ``access``,
``folders``, ``intake``, ``projection``. Only ``service`` imports this room.
"""
