"""The state of a running logger: status, health page, metrics.

Reads the counters of all other rooms. May import ``access``, ``intake``, ``projection`` and ``folders``; only
``service`` imports this room.
"""
