#!/usr/bin/env bash
# Make DIR/python: Debian's Python 3.11 for arm64 with the pinned wheels that `infer` needs, run by
# qemu-user (apt-get install qemu-user). Some 350 MB; nothing of this machine changes.
#
#   bash tests/arm64.sh DIR && ARM64_PYTHON=DIR/python python -m pytest tests/integration/test_arm64.py
set -euo pipefail
[ $# = 1 ] || { echo "usage: $0 DIR" >&2; exit 2; }
project=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$1"
folder=$(cd "$1" && pwd)
mkdir -p "$folder"/{root,site,wheels,debs,apt/lists/partial,apt/archives/partial}
touch "$folder/apt/status"
cat > "$folder/apt.conf" <<CONF
APT::Architecture "arm64";
APT::Architectures { "arm64"; };
APT::Sandbox::User "root";
Dir::State "$folder/apt";
Dir::State::status "$folder/apt/status";
Dir::Cache "$folder/apt";
CONF
export APT_CONFIG="$folder/apt.conf"
apt-get update -qq
(cd "$folder/debs" && apt-get download -qq python3.11-minimal libpython3.11-minimal \
    libpython3.11-stdlib libc6 libgcc-s1 libstdc++6 zlib1g libexpat1 libffi8 libssl3 libbz2-1.0 \
    liblzma5 libuuid1 libcrypt1 libsqlite3-0)
for package in "$folder"/debs/*.deb; do dpkg-deb -x "$package" "$folder/root"; done

pin() { grep -hE "^$1==" "$project/requirements.txt" "$project"/requirements/*.txt | head -1; }
wheels=(requests portalocker urllib3 idna certifi charset-normalizer)  # ncnn imports them
for name in numpy opencv-python-headless pyyaml pillow tqdm MNN ncnn; do wheels+=("$(pin "$name")"); done
platforms=()
for glibc in 2014 _2_17 _2_24 _2_27 _2_28; do platforms+=(--platform "manylinux${glibc}_aarch64"); done
"${PYTHON:-python}" -m pip download -q --no-deps --only-binary=:all: "${platforms[@]}" \
    --python-version 3.11 -d "$folder/wheels" "${wheels[@]}"
for wheel in "$folder"/wheels/*.whl; do
    "${PYTHON:-python}" -m zipfile -e "$wheel" "$folder/site"
done
cat > "$folder/python" <<RUN
#!/bin/sh
exec qemu-aarch64 -L "$folder/root" -E PYTHONHOME="$folder/root/usr" \\
    -E PYTHONPATH="$project:$folder/site" -E OMP_NUM_THREADS=1 -E OPENBLAS_NUM_THREADS=1 \\
    -E LD_LIBRARY_PATH="$folder/root/usr/lib/aarch64-linux-gnu" \\
    "$folder/root/usr/bin/python3.11" "\$@"
RUN
chmod +x "$folder/python"
"$folder/python" -c "import MNN, ncnn, cv2, platform; print(platform.machine(), 'runs')"
