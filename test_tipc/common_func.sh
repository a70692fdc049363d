# shellcheck shell=bash
# What the TIPC scripts share; sourced by them, in the project's folder.

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
