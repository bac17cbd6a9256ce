"""The reference trainer's settings: their meaning, their bounds, and the command line made from them.

May import ``protocol`` and ``telemetry``.
"""
