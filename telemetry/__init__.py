"""The client library: what a training loop calls, and what carries its records to a logger or a recording.

``tensorboard_sidecar.Telemetry`` is its public name. Needs torch, pyzmq and msgpack; no torchvision, no matplotlib.
May import ``protocol``.
"""
