#!/bin/sh
# Without arguments: make the keys of this project's logger and trainer, if there are none. With arguments: run
# `tensorboard-sidecar keys` on the logger's keys (list | allow NAME PUBLIC_KEY | revoke NAME).
set -eu
logger=/run/secrets/logger trainer=/run/secrets/trainer

keys() { tensorboard-sidecar keys "$@"; }

# The public half of a pair is written last: if it exists, the pair is complete.
make_pair() { [ -s "$1/$2.pub" ] || { rm -f "$1/$2.key"; keys create "$1" --name "$2" > /dev/null; }; }

if [ $# -gt 0 ]; then
  keys "$@" --keys "$logger"
  exit
fi
make_pair "$logger" server
# The logger's public key is copied last. Once it is there, a trainer that is not allowed was revoked on purpose.
if ! cmp -s "$logger/server.pub" "$trainer/server.pub"; then
  make_pair "$trainer" trainer
  keys allow trainer "$trainer/trainer.pub" --keys "$logger"
  cp "$logger/server.pub" "$trainer/server.pub"
fi
echo "logger's public key: $(cat "$logger/server.pub")"
