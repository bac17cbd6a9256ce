"""The reference trainer's settings: what each is, what it may be, and the command line made from them.

May import ``protocol`` and ``telemetry``.
"""
