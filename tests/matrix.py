"""`make matrix`: the README's tour and the unit tests on every Python found here, as a table.

Each Python has a fresh clone of the last commit, and an environment made by make. The hashes
of the checkpoint and of the label maps show whether the results are equal to the bit.
"""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.11", "3.12", "3.13")
PACKAGES = ("paddlepaddle", "numpy", "opencv-python-headless", "pandas")
HEAD = ("Python", *PACKAGES, "tour", "checkpoint", "label maps", "unit tests")


def interpreter(version: str) -> str | None:
    """The interpreter of a minor version: of pyenv, of the path or of uv; None where none runs."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = sorted(pyenv.glob(f"{version}.*/bin/python"))
    candidates = [*map(str, reversed(found)), f"python{version}"]
    if shutil.which("uv"):
        asked = ["uv", "python", "find", version]
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
        candidates.append(done.stdout.strip() or f"python{version}")
    for candidate in candidates:
        path = shutil.which(candidate)
        code = "import sys; print('%d.%d' % sys.version_info[:2])"
        if path and _output([path, "-c", code]) == version:
            return path
    return None


def _output(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def tour() -> str:
    """The commands of the README that run as they stand."""
    fences = re.findall(r"```bash\n(.*?)```", (PROJECT / "README.md").read_text(), re.DOTALL)
    (commands,) = [fence for fence in fences if "output/tour/" in fence]
    return commands


def hash_of(files: list[Path]) -> str:
    """The first half of a SHA-256 over files in the order of their names; `-` for none."""
    total = hashlib.sha256()
    for file in sorted(files):
        total.update(file.name.encode() + file.read_bytes())
    return total.hexdigest()[:16] if files else "-"


def run(version: str, folder: Path, unit_tests: bool) -> tuple[str, ...]:
    """Returns the row of a Python."""
    python = interpreter(version)
    if python is None:
        return (version, *["-"] * len(PACKAGES), "skipped: not found here", "-", "-", "-")
    folder.mkdir(parents=True, exist_ok=True)
    checkout, log = folder / "checkout", folder / "log.txt"
    shutil.rmtree(checkout, ignore_errors=True)
    subprocess.run(["git", "clone", "--quiet", PROJECT, checkout], check=True)
    bin_dir = folder / "venv" / "bin"
    environment = os.environ | {"PATH": f"{bin_dir}{os.pathsep}{os.environ['PATH']}"}
    environment.pop("PYTHONPATH", None)
    with open(log, "w", encoding="utf-8") as written:

        def status(*command: object) -> int:
            return subprocess.run(
                list(map(str, command)),
                cwd=checkout,
                env=environment,
                stdout=written,
                stderr=subprocess.STDOUT,
                check=False,
            ).returncode

        # The editable install is of this clone, so what says that it is done goes.
        for stamp in (folder / "venv").glob("*.stamp"):
            stamp.unlink()
        dev = folder / "venv" / "dev.stamp"
        if status("make", f"VENV={folder / 'venv'}", f"PYTHON={python}", dev):
            return (version, *["-"] * len(PACKAGES), f"no environment: {log}", "-", "-", "-")
        code = "import sys\nfrom importlib import metadata\nprint(sys.version.split()[0], "
        code += f"*(metadata.version(p) for p in {PACKAGES}))"
        versions = _output([str(bin_dir / "python"), "-c", code]).split()
        toured = "passed" if status("bash", "-ec", tour()) == 0 else "failed"
        units = "not run"
        if unit_tests:
            tests = [bin_dir / "python", "-m", "pytest", "-m", "not slow and not gpu", "tests/unit"]
            units = "passed" if status(*tests) == 0 else "failed"
    output = checkout / "output" / "tour"
    weights = list((output / "train" / "best_model").glob("model.pdparams"))
    maps = list((output / "infer" / "label_maps").rglob("*.png"))
    return (*versions, toured, hash_of(weights), _hash_of_pixels(bin_dir, maps), units)


def _hash_of_pixels(bin_dir: Path, maps: list[Path]) -> str:
    """Of the label maps' values: PNG encoders differ."""
    code = "import sys, hashlib, cv2\ntotal = hashlib.sha256()\nfor name in sys.argv[1:]:\n"
    code += "    total.update(cv2.imread(name, cv2.IMREAD_UNCHANGED).tobytes())\n"
    code += "print(total.hexdigest()[:16])"
    return _output([str(bin_dir / "python"), "-c", code, *map(str, sorted(maps))]) if maps else "-"


def main() -> int:
    """Print the table and write it; 1 where something failed or results differ."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pythons", nargs="+", default=PYTHONS, metavar="3.X")
    parser.add_argument("--save_dir", type=Path, default=PROJECT / "output" / "matrix")
    parser.add_argument("--no_unit_tests", action="store_true", help="the tour alone")
    arguments = parser.parse_args()
    rows = []
    for version in arguments.pythons:
        print(f"== Python {version}", flush=True)
        folder = arguments.save_dir.resolve() / version
        rows.append(run(version, folder, not arguments.no_unit_tests))
        print("  " + ", ".join(rows[-1]), flush=True)
    lines = ["| " + " | ".join(row) + " |" for row in (HEAD, ["---"] * len(HEAD), *rows)]
    arguments.save_dir.mkdir(parents=True, exist_ok=True)
    (arguments.save_dir / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))
    ran = [row for row in rows if not row[-4].startswith("skipped")]
    failed = [row for row in ran if row[-4] != "passed" or row[-1] == "failed"]
    differ = len({row[-3:-1] for row in ran}) > 1
    if differ:
        print("failed: the results differ between Pythons", file=sys.stderr)
    return int(bool(failed or differ or not ran))


if __name__ == "__main__":
    sys.exit(main())
