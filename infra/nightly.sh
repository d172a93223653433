#!/bin/sh
# The work of a night: a new model, and then the features and histories of the online store.
#
#   nightly [CONFIG]     AS_OF=2026-11-23 nightly    for another day than today's, in UTC
#
# It ends with the exit code of `recsys run`; see docs/operations.md.
set -eu
config=${1:-/etc/recsys/config.yaml}
recsys run "$config" --as-of "${AS_OF:-$(date -u +%F)}" --wait
recsys materialize "$config" --wait
