"""The state of a running logger: status, health page, metrics.

May import ``protocol``, ``counters``, ``folders``, ``access``, ``intake`` and ``projection``. Imported by ``service``.
"""
