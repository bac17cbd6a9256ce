"""The helper: shows the recordings of the ``SummaryWriter`` of one user's programs, with nothing to start or to stop.

May import ``protocol`` with its rooms, ``logger_service.folders``, ``.projection`` and ``.limits``. Needs no zmq.
"""
