"""The folder that ``tensorboard-sidecar run`` puts on PYTHONPATH; holds no other module than ``sitecustomize``."""
