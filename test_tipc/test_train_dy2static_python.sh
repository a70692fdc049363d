#!/usr/bin/env bash
# Train in dynamic and in static graph, and compare losses, weights and predictions.
#
#   bash test_tipc/test_train_dy2static_python.sh CFG.txt MODE [GPUID]
#
# CFG.txt: train_infer_python.txt; MODE: lite_train_lite_infer.
# Exit status: 0 all equal, 1 a command failed or a result differs, 2 wrong use, 3 nothing of it can
# run on this machine.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=test_tipc/common_func.sh
source test_tipc/common_func.sh
run_chain dy2static "$0" "$@"
