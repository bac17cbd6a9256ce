#!/bin/sh
# The command of the trainer's container: trains on the mounted data set, or on a synthetic data set; resumes by itself.
set -eu
data=/data/host/flickr8k
if [ ! -d "$data" ]; then
  data=/data/demo/flickr8k-${DEMO_IMAGES:-640}
  echo "no flickr8k in DATA_PATH that user $(id -u) may read: training on a small synthetic data set"
  tensorboard-sidecar demo-data "$data" --images "${DEMO_IMAGES:-640}"
fi
echo "TensorBoard: http://${TENSORBOARD:-127.0.0.1:6006}"
# TRAINER_FLAGS holds several words, split here on purpose.
# shellcheck disable=SC2086
exec tensorboard-sidecar train --root_dir "$data" --savedir /checkpoints --resume auto "$@" ${TRAINER_FLAGS:-}
