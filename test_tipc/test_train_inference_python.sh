#!/usr/bin/env bash
# Train, evaluate, export and infer as a TIPC config says, and compare all of it by pixel counts.
#
#   bash test_tipc/test_train_inference_python.sh CFG.txt MODE [GPUID]
#
# CFG.txt: train_infer_python.txt, train_distributed_infer_python.txt or train_amp_infer_python.txt.
# Exit status: 0 all equal, 1 a command failed or a result differs, 2 wrong use, 3 nothing of it can
# run on this machine.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=test_tipc/common_func.sh
source test_tipc/common_func.sh
run_chain train_infer "$0" "$@"
