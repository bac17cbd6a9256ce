"""The state of a running logger: status, health page, metrics.

Reads the counters of all other rooms; only ``service`` imports this room.
"""
