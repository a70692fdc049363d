"""`make matrix`: the README's tour and the unit tests on every Python found here, as a table.

Each leg has a fresh clone of the last commit, and an environment made by make. The hashes of the
drawn images, the checkpoint and the label maps show whether the results are equal to the bit.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
OLD_SET = "numpy1"
# A minor version of Python, and the set of requirements where it is not the default.
LEGS = ("3.11", "3.12", "3.13", f"3.11-{OLD_SET}")
VERSIONS = ("Python", "Paddle", "NumPy", "OpenCV", "pandas")
RESULTS = ("pip check", "tour", "images", "checkpoint", "label maps", "unit tests")
HASHED = ("images", "checkpoint", "label maps")
PRINT_VERSIONS = """
import sys
from importlib import metadata
opencv = metadata.packages_distributions()["cv2"][0]
packages = "paddlepaddle", "numpy", opencv, "pandas"
print(sys.version.split()[0], *map(metadata.version, packages))
"""
# Of what the files decode to: PNG encoders differ.
PRINT_HASH_OF_PIXELS = """
import sys, hashlib, cv2
total = hashlib.sha256()
for name in sys.argv[1:]:
    total.update(cv2.imread(name, cv2.IMREAD_UNCHANGED).tobytes())
print(total.hexdigest()[:16])
"""
# Of the tensors: NumPy 1 and 2 write the name of another module of theirs into the file.
PRINT_HASH_OF_TENSORS = """
import sys, hashlib
from paddleseg_ext.checkpoints.store import read_arrays
total = hashlib.sha256()
for name, array in sorted(read_arrays(sys.argv[1]).items()):
    total.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
print(total.hexdigest()[:16])
"""


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


def _output(command: Sequence[str | Path]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def tour() -> str:
    """The commands of the README that run as they stand."""
    fences = re.findall(r"```bash\n(.*?)```", (PROJECT / "README.md").read_text(), re.DOTALL)
    (commands,) = [fence for fence in fences if "output/tour/" in fence]
    return commands


class Leg:
    """One row of the table: a Python, a set of requirements, and a folder for both."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        self.version, _, self.requirements = name.partition("-")
        self.checkout, self.venv = folder / "checkout", folder / "venv"
        self.python = self.venv / "bin" / "python"

    def run(self, unit_tests: bool) -> dict[str, str]:
        """Run everything and return the row."""
        row = {"leg": self.name} | dict.fromkeys((*VERSIONS, *RESULTS), "-")
        python = interpreter(self.version)
        if python is None:
            return row | {"tour": "skipped: not found here"}
        shutil.rmtree(self.folder / "checkout", ignore_errors=True)
        subprocess.run(["git", "clone", "--quiet", PROJECT, self.checkout], check=True)
        log = self.folder / "log.txt"
        log.unlink(missing_ok=True)
        # The editable install is of this clone, so what says that it is done goes.
        for stamp in self.venv.glob("*.stamp"):
            stamp.unlink()
        stamp = self.venv / ("dev.stamp" if not self.requirements else f"{self.requirements}.stamp")
        if self.status("make", f"VENV={self.venv}", f"PYTHON={python}", stamp):
            return row | {"tour": f"no environment: {log}"}
        row |= zip(VERSIONS, _output([self.python, "-c", PRINT_VERSIONS]).split(), strict=True)
        row["pip check"] = self.pip_check()
        row["tour"] = self.verdict("bash", "-ec", tour())
        output = self.checkout / "output" / "tour"
        images = (output / "data" / "leftImg8bit").rglob("*.png")
        row["images"] = self.hash(PRINT_HASH_OF_PIXELS, images)
        weights = [output / "train" / "best_model" / "model.pdparams"]
        row["checkpoint"] = self.hash(PRINT_HASH_OF_TENSORS, weights)
        maps = (output / "infer" / "label_maps").rglob("*.png")
        row["label maps"] = self.hash(PRINT_HASH_OF_PIXELS, maps)
        if unit_tests:
            tests = ["-m", "pytest", "-m", "not slow and not gpu", "tests/unit"]
            row["unit tests"] = self.verdict(self.python, *tests)
        return row

    def pip_check(self) -> str:
        """Whether pip misses nothing but OpenCV under its other name (docs/platform.md)."""
        command: list[str | Path] = [self.python, "-m", "pip", "check"]
        self.status(*command)
        return "failed" if missing(_output(command)) else "passed"

    def verdict(self, *command: object) -> str:
        return "passed" if self.status(*command) == 0 else "failed"

    def status(self, *command: object) -> int:
        """Run a command in the clone and the environment; its output is added to the log."""
        path = f"{self.python.parent}{os.pathsep}{os.environ['PATH']}"
        environment = os.environ | {"PATH": path}
        environment.pop("PYTHONPATH", None)
        with open(self.folder / "log.txt", "a", encoding="utf-8") as log:
            return subprocess.run(
                list(map(str, command)),
                cwd=self.checkout,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                check=False,
            ).returncode

    def hash(self, code: str, files: Iterable[Path]) -> str:
        """The code's output for the files, in the order of their names; `-` for none."""
        names = sorted(map(str, files))
        return (names and _output([self.python, "-c", code, *names])) or "-"


def missing(pip_check: str) -> list[str]:
    """The lines of `pip check` that say more than that OpenCV has its other name."""
    other_name = re.compile(r"requires opencv-python(-headless)?, which is not installed\.$")
    lines = pip_check.splitlines()
    return [
        line
        for line in lines
        if "No broken requirements" not in line and not other_name.search(line)
    ]


def main() -> int:
    """Print the table and write it; 1 where something failed or results differ."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--legs", nargs="+", default=LEGS, metavar=f"3.X[-{OLD_SET}]")
    parser.add_argument("--save_dir", type=Path, default=PROJECT / "output" / "matrix")
    parser.add_argument("--no_unit_tests", action="store_true", help="the tour alone")
    arguments = parser.parse_args()
    root = arguments.save_dir.resolve()
    rows = []
    for name in arguments.legs:
        print(f"== Python {name}", flush=True)
        (root / name).mkdir(parents=True, exist_ok=True)
        rows.append(Leg(name, root / name).run(not arguments.no_unit_tests))
        print("  " + ", ".join(rows[-1].values()), flush=True)
    cells = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    table = "".join(f"| {' | '.join(line)} |\n" for line in cells)
    (root / "table.md").write_text(table, encoding="utf-8")
    print(table, end="")
    return int(not sound(rows))


def sound(rows: Sequence[dict[str, str]]) -> bool:
    """Whether something ran, nothing failed, and no leg has other results; says what is wrong."""
    ran = [row for row in rows if not row["tour"].startswith("skipped")]
    wrong = [row["leg"] for row in ran if row["tour"] != "passed" or "failed" in row.values()]
    if wrong:
        print(f"failed: {', '.join(wrong)}", file=sys.stderr)
    differ = [key for key in HASHED if len({row[key] for row in ran}) > 1]
    if differ:
        print(f"failed: legs differ in: {', '.join(differ)}", file=sys.stderr)
    return bool(ran) and not wrong and not differ


if __name__ == "__main__":
    sys.exit(main())
