#!/usr/bin/env bash
# Quantise to INT8, run the graphs, and compare with the network within INT8's budget.
#
#   bash test_tipc/test_ptq_inference_python.sh CFG.txt MODE [GPUID]
#
# CFG.txt: train_ptq_infer_python.txt; MODE: klquant_whole_infer (or whole_infer).
# Exit status: 0 all equal, 1 a command failed or a result differs, 2 wrong use, 3 nothing of it can
# run on this machine.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=test_tipc/common_func.sh
source test_tipc/common_func.sh
run_chain ptq "$0" "$@"
