#!/usr/bin/env bash
# Measure the speed of training, with PaddlePaddle's names for files and keys.
#
#   bash test_tipc/benchmark_train.sh CFG.txt benchmark_train [PARAMS]
#
# CFG.txt: train_infer_python.txt, with ===train_benchmark_params===.
# PARAMS: dynamic_bs2_fp32_DP_N1C1 for that alone (dynamicTostatic_... in static graph); without it
# every batch_size and fp_items of CFG.txt.
# Exit status: 0 measured, 1 failed, 2 wrong use, 3 nothing of it can run on this machine.
set -euo pipefail
if [ $# -lt 2 ] || [ $# -gt 3 ]; then
    echo "usage: bash test_tipc/benchmark_train.sh CFG.txt benchmark_train [PARAMS]" >&2
    exit 2
fi
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=test_tipc/common_func.sh
source test_tipc/common_func.sh
use_project_python
exec python -m paddleseg_ext tipc run --chain benchmark "$@"
