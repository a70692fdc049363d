#!/usr/bin/env bash
# Run the C++ program (`make cpp`), and compare its label maps and counts with the network's.
#
#   bash test_tipc/test_inference_cpp.sh CFG.txt MODE [GPUID]
#
# CFG.txt: inference_cpp.txt; MODE: whole_infer.
# Exit status: 0 all equal, 1 a command failed or a result differs, 2 wrong use, 3 nothing of it can
# run on this machine.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=test_tipc/common_func.sh
source test_tipc/common_func.sh
run_chain cpp "$0" "$@"
