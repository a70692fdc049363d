#!/usr/bin/env bash
# Train, evaluate, export and infer as a TIPC config says, and compare all of it by pixel counts.
#
#   bash test_tipc/test_train_inference_python.sh CFG.txt MODE [GPUID]
#
# Exit status: 0 all equal, 1 a command failed or a result differs, 2 wrong use.
set -euo pipefail
if [ $# -lt 2 ] || [ $# -gt 3 ]; then
    echo "usage: bash test_tipc/test_train_inference_python.sh CFG.txt MODE [GPUID]" >&2
    exit 2
fi
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=test_tipc/common_func.sh
source test_tipc/common_func.sh
use_project_python
if [ $# -eq 3 ]; then
    export CUDA_VISIBLE_DEVICES="$3"
fi
exec python -m paddleseg_ext tipc run "$1" "$2"
