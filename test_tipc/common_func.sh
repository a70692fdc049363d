# shellcheck shell=bash
# Functions of the TIPC scripts, which source this file in the project's folder.

# The environment that `make` installs, unless another one is active.
use_project_python() {
    if [ -z "${VIRTUAL_ENV:-}" ] && [ -x .venv/bin/python ]; then
        PATH="$PWD/.venv/bin:$PATH"
    fi
    if ! python -c 'import cv2, numpy, yaml' 2>/dev/null; then
        echo "error: 'python' in PATH is not this project's: run 'make demo' or 'make test' once," \
            "which install it in .venv" >&2
        exit 2
    fi
}

# Run a chain: run_chain CHAIN "$0" CFG.txt MODE [GPUID]
run_chain() {
    local chain="$1" script="$2"
    shift 2
    if [ $# -lt 2 ] || [ $# -gt 3 ]; then
        echo "usage: bash test_tipc/$(basename "$script") CFG.txt MODE [GPUID]" >&2
        exit 2
    fi
    use_project_python
    if [ $# -eq 3 ]; then
        export CUDA_VISIBLE_DEVICES="$3"
    fi
    exec python -m paddleseg_ext tipc run --chain "$chain" "$1" "$2"
}
