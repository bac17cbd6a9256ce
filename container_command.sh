#!/bin/sh
# The command `tensorboard-sidecar` in the images, which hold the source files and no installed distribution.
exec python -m tensorboard_sidecar "$@"
