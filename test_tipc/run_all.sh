#!/usr/bin/env bash
# Every chain of every network on the same few images, and one table of the outcomes.
#
#   bash test_tipc/run_all.sh [--networks NAME ...] [--chains NAME ...]
#
# CITYSCAPES_ROOT names a Cityscapes folder; without it the embedded data set is drawn.
# test_tipc/output/suite.json and suite.xml have the results. Exit status: 0 passed, 1 something
# failed, 2 wrong use, 3 nothing of it can run on this machine.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=test_tipc/common_func.sh
source test_tipc/common_func.sh
use_project_python
python -m paddleseg_ext tipc prepare \
    test_tipc/configs/bisenetv1/train_infer_python.txt lite_train_lite_infer
exec python -m paddleseg_ext tipc suite "$@"
