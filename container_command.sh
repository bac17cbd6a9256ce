#!/bin/sh
# `tensorboard-sidecar` inside the images, which hold the source and no installed distribution.
exec python -m tensorboard_sidecar "$@"
