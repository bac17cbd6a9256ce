"""The methods of a writer, as torch's and tensorboardX's ``SummaryWriter`` have them, on top of a ``Telemetry``.

May import ``protocol``, ``telemetry.values`` and ``telemetry.calls``.
"""
