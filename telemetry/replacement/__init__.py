"""``tensorboard-sidecar run``: a program runs unchanged, with torch's and tensorboardX's ``SummaryWriter`` replaced.

May import ``protocol`` and ``protocol.outbox``.
"""
