"""The client library: a training loop calls it, and it carries the loop's records to a logger or a recording.

Its public name is ``tensorboard_sidecar.Telemetry``. Needs torch, pyzmq and msgpack; no torchvision, no matplotlib.
May import ``protocol`` and its own rooms.
"""
