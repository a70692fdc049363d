#!/usr/bin/env bash
# Lay out the data of a TIPC chain. Downloads and installs nothing.
#
#   bash test_tipc/prepare.sh test_tipc/configs/bisenetv1/train_infer_python.txt MODE
#
# CITYSCAPES_ROOT names a Cityscapes folder (leftImg8bit/, gtFine/), which is linked and only read;
# without it the embedded data set is drawn.
set -euo pipefail
if [ $# -ne 2 ]; then
    echo "usage: bash test_tipc/prepare.sh CFG.txt MODE" >&2
    exit 2
fi
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=test_tipc/common_func.sh
source test_tipc/common_func.sh
use_project_python
exec python -m paddleseg_ext tipc prepare "$1" "$2"
