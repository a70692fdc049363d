#!/usr/bin/env bash
# Run the graphs of phones (MNN, ncnn) and the page of browsers (in node), and compare with the network.
#
#   bash test_tipc/test_inference_edge.sh CFG.txt MODE [GPUID]
#
# CFG.txt: inference_edge.txt; MODE: whole_infer.
# Exit status: 0 all equal, 1 a command failed or a result differs, 2 wrong use, 3 nothing of it can
# run on this machine.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=test_tipc/common_func.sh
source test_tipc/common_func.sh
run_chain edge "$0" "$@"
