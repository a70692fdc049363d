#!/usr/bin/env bash
# Convert to ONNX, run the graph in other runtimes, and compare with the network by pixel counts.
#
#   bash test_tipc/test_paddle2onnx.sh CFG.txt MODE [GPUID]
#
# CFG.txt: paddle2onnx_python.txt; MODE: whole_infer.
# Exit status: 0 all equal, 1 a command failed or a result differs, 2 wrong use, 3 nothing of it can
# run on this machine.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=test_tipc/common_func.sh
source test_tipc/common_func.sh
run_chain paddle2onnx "$0" "$@"
