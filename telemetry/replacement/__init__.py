"""``tensorboard-sidecar run``: a program runs unchanged, with torch's and tensorboardX's ``SummaryWriter`` replaced.

May import ``protocol``, ``protocol.outbox`` and ``protocol.helper``.
"""
