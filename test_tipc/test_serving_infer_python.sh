#!/usr/bin/env bash
# Start the HTTP service, request label maps, stop it, and compare them with the network's.
#
#   bash test_tipc/test_serving_infer_python.sh CFG.txt MODE [GPUID]
#
# CFG.txt: serving_infer_python.txt; MODE: whole_infer.
# Exit status: 0 all equal, 1 a command failed or a result differs, 2 wrong use, 3 nothing of it can
# run on this machine.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=test_tipc/common_func.sh
source test_tipc/common_func.sh
run_chain serving "$0" "$@"
