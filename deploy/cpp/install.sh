#!/usr/bin/env bash
# Install what the C++ program is built with, build it and run its tests under the sanitizers.
#
#   bash deploy/cpp/install.sh [BUILD_DIR]      # default: output/cpp; PYTHON names the interpreter
#
# On Debian and Ubuntu missing packages are installed (as root, or with sudo). OpenVINO is the wheel
# of PYTHON (pip install paddleseg_ext[openvino]), or OpenVINO_DIR names a system's own.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
build="${1:-output/cpp}"
packages=(g++ cmake make libopencv-dev libyaml-cpp-dev libjpeg-dev libpng-dev zlib1g-dev libssl-dev)

missing=()
if command -v dpkg-query > /dev/null; then
    for package in "${packages[@]}"; do
        dpkg-query -W -f '${Status}' "$package" 2> /dev/null | grep -q "ok installed" || missing+=("$package")
    done
else
    echo "not a Debian system: needed are ${packages[*]} by its names"
fi
if ((${#missing[@]})); then
    echo "== installing ${missing[*]}"
    root=()
    if [ "$(id -u)" -ne 0 ]; then root=(sudo); fi
    "${root[@]}" apt-get update -qq
    "${root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}"
fi
if [ -z "${OpenVINO_DIR:-}" ]; then
    OpenVINO_DIR="$("${PYTHON:-python3}" -c 'from openvino.utils import get_cmake_path; print(get_cmake_path())')"
fi

for kind in plain sanitized; do
    folder="$build" sanitize=OFF
    if [ "$kind" = sanitized ]; then folder="$build/sanitized" sanitize=ON; fi
    echo "== building $folder"
    cmake -S "$here" -B "$folder" -DOpenVINO_DIR="$OpenVINO_DIR" -DSANITIZE="$sanitize" > /dev/null
    cmake --build "$folder" --parallel "${JOBS:-2}"
    ctest --test-dir "$folder" --output-on-failure
done
echo "== $build/segment --help"
