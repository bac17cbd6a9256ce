"""The command ``doctor --live``: a marked point travels through a running logger, and is looked for at every hop.

May import ``protocol`` and ``telemetry``.
"""
