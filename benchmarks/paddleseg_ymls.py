r"""The table of docs/paddleseg.md: the ymls that PaddleSeg publishes, through our commands.

    python benchmarks/paddleseg_ymls.py --ymls PaddleSeg --save_dir output/paddleseg_ymls

Loads each yml below --ymls that is in `configs` or `test_tipc/configs`, and builds its network. One
yml of each distinct network (type and backbone) trains one iteration on small crops of drawn data,
evaluates, exports and infers, in a process of its own. Where a step fails, PaddleSeg's own classes
try the same without this project. A run that was interrupted goes on; --again repeats networks.
SAVE_DIR gets table.md, results.json and logs per network; checkpoints and bundles are deleted.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from paddleseg_ext.common import flags
from paddleseg_ext.common.errors import UsageError, run_command
from paddleseg_ext.common.files import write_json, write_text
from paddleseg_ext.common.log import log
from paddleseg_ext.config import Config, load_config

HERE = Path(__file__).resolve().parent
FOLDERS = ("configs", "test_tipc/configs")
STEPS = ("loads", "builds", "trains", "evaluates", "exports", "infers")
RUN_STEPS = STEPS[2:]
CROPS = (64, 128)  # pixels
OUTPUTS = ("train", "val", "bundle", "infer", "alone")  # folders of one network's run
NO_MODEL = "a base without a model"


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = flags.make_parser(__doc__ or "")
    parser.add_argument("--ymls", required=True, type=Path, metavar="DIR", help="of PaddleSeg")
    parser.add_argument("--save_dir", default="output/paddleseg_ymls", type=Path, metavar="DIR")
    parser.add_argument("--only", default="", metavar="WORD", help="networks with it in their name")
    parser.add_argument("--again", action="store_true", help="also networks that were run before")
    parser.add_argument("--no_run", action="store_true", help="load and build; use earlier results")
    parser.add_argument(
        "--seconds", type=flags.positive_int, default=900, help="limit per network and process"
    )
    parser.add_argument(
        "--gigabytes", type=flags.positive_int, default=12, help="limit of memory per network"
    )
    return parser.parse_args(argv)


def main() -> None:
    """Load, build and run what is not done; write the table."""
    arguments = parse_arguments(sys.argv[1:])
    paths = sorted(p for f in FOLDERS for p in (arguments.ymls / f).rglob("*.y*ml"))
    if not paths:
        raise UsageError(f"--ymls: no yml below '{arguments.ymls}' in {' or '.join(FOLDERS)}")
    folder: Path = arguments.save_dir
    folder.mkdir(parents=True, exist_ok=True)
    rows, configs = {}, {}
    for path in paths:
        name = str(path.relative_to(arguments.ymls))
        rows[name], configs[name] = load(path)
    build_all(rows, configs, arguments)
    for network, name in representatives(configs).items():
        done = folder / "networks" / network / "result.json"
        wanted = arguments.only in network and (arguments.again or not done.is_file())
        if wanted and not arguments.no_run and rows[name]["builds"] == "":
            log(f"== {network}: {name}")
            run_network(arguments.ymls / name, done.parent, arguments)
        if done.is_file():
            rows[name] |= json.loads(done.read_text()) | {"network": network}
            alone = done.with_name("alone.json")
            rows[name]["alone"] = json.loads(alone.read_text()) if alone.is_file() else None
    write_json(folder / "results.json", rows)
    write_text(folder / "table.md", "\n".join(table(rows)) + "\n")
    print("\n".join(summary(rows)))


def load(path: Path) -> tuple[dict[str, Any], Config | None]:
    """The row of a yml, and its configuration where it has a network."""
    try:
        config = load_config(path)
    except UsageError as error:
        return {"loads": str(error)}, None
    if "model" not in config.raw:
        return {"loads": "", "note": NO_MODEL}, None
    return {"loads": ""}, config


def network_of(config: Config) -> str:
    """A name of a network: type and backbone."""
    backbone = config.model.get("backbone") or {}
    return "-".join(filter(None, (config.model["type"], backbone.get("type"))))


def representatives(configs: dict[str, Config | None]) -> dict[str, str]:
    """Network -> its first yml, one with both data sets where there is one."""
    chosen: dict[str, str] = {}
    whole: set[str] = set()
    for name, config in configs.items():
        if config is None:
            continue
        network = network_of(config)
        has_data = {"train_dataset", "val_dataset", "loss"} <= set(config.raw)
        if network not in chosen or (has_data and network not in whole):
            chosen[network] = name
        if has_data:
            whole.add(network)
    return chosen


def build_all(
    rows: dict[str, dict[str, Any]],
    configs: dict[str, Config | None],
    arguments: argparse.Namespace,
) -> None:
    """Fill in `builds`; ymls of one `model:` share the result, which a file keeps."""
    file = arguments.save_dir / "builds.json"
    is_anew = arguments.again and not arguments.only
    known = json.loads(file.read_text()) if file.is_file() and not is_anew else {}
    keys = {
        name: json.dumps(config.model, sort_keys=True)
        for name, config in configs.items()
        if config is not None
    }
    while todo := {key: name for name, key in keys.items() if key not in known}:
        command = [str(HERE / "paddleseg_network.py"), "--build"]
        command += [str((arguments.ymls / name).resolve()) for name in todo.values()]
        status, output = run_limited(command, arguments.save_dir / "build.log", arguments)
        reasons = [line[6:] for line in output.splitlines() if line.startswith("BUILD ")]
        known |= dict(zip(todo, reasons, strict=False))
        if len(reasons) < len(todo):  # the process ended while it built the next one
            known[list(todo)[len(reasons)]] = status
        write_json(file, known)
    for name, key in keys.items():
        rows[name]["builds"] = known[key]


def run_network(yml: Path, folder: Path, arguments: argparse.Namespace) -> None:
    """Run the steps; where one fails, PaddleSeg's own."""
    folder.mkdir(parents=True, exist_ok=True)
    data = (arguments.save_dir / "data").resolve()
    command = [str(HERE / "paddleseg_network.py"), str(yml.resolve()), "--data_root", str(data)]
    command += ["--save_dir", str(folder.resolve())]
    result_file, result, started = folder / "result.json", {}, time.monotonic()
    for side in CROPS:  # some networks refuse the smaller ones
        if result.get("trains") or not result:
            result_file.unlink(missing_ok=True)
            sized = [*command, "--side", str(side)]
            status, _ = run_limited(sized, folder / "log", arguments)
            result = json.loads(result_file.read_text()) if result_file.is_file() else {}
    missing = [step for step in RUN_STEPS if step not in result]
    if status and missing and all(not result[step] for step in result):
        result[missing[0]] = status
    result["seconds"] = round(time.monotonic() - started)
    write_json(result_file, result)
    failed = [step for step in RUN_STEPS if result.get(step)]
    log(f"{failed[0]}: {result[failed[0]]}" if failed else "every step passes")
    if failed:
        run_limited([*command, "--alone"], folder / "alone.log", arguments)
    for name in OUTPUTS:  # some 200 MB a network
        shutil.rmtree(folder / name, ignore_errors=True)


def run_limited(
    command: Sequence[str], log_file: Path, arguments: argparse.Namespace
) -> tuple[str, str]:
    """Run a script of this folder; returns why it failed, or nothing, and its output."""
    deadline, reason = time.monotonic() + arguments.seconds, ""
    with log_file.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", *command],
            stdout=output, stderr=subprocess.STDOUT, cwd=log_file.parent, start_new_session=True,
        )  # fmt: skip
        while process.poll() is None and not reason:
            time.sleep(0.5)
            if time.monotonic() > deadline:
                reason = f"more than {arguments.seconds} s"
            if memory_gb(process.pid) > arguments.gigabytes:
                reason = f"more than {arguments.gigabytes} GB of memory"
        if reason:
            os.killpg(process.pid, signal.SIGKILL)
        status = process.wait()
    return reason or (f"exit status {status}" if status else ""), log_file.read_text(
        "utf-8", "replace"
    )


def memory_gb(pid: int) -> float:
    """Resident memory of a process."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e9


def table(rows: dict[str, dict[str, Any]]) -> list[str]:
    """A line per yml: a mark per step, and the first reason."""
    lines = [f"| yml | {' | '.join(STEPS)} | reason |", "|---" * (len(STEPS) + 2) + "|"]
    for name, row in rows.items():
        marks = ["" if step not in row else "no" if row[step] else "yes" for step in STEPS]
        reasons = [row[step] for step in STEPS if row.get(step)]
        reason = reasons[0].replace("|", "/")[:300] if reasons else row.get("note", "")
        lines.append(f"| {name} | {' | '.join(marks)} | {reason}{alone_reason(row)} |")
    return lines


def alone_reason(row: dict[str, Any]) -> str:
    """The outcome of a failed step with PaddleSeg's own classes alone."""
    if not row.get("alone"):
        return ""
    failed = [f"{step}: {reason}" for step, reason in row["alone"].items() if reason]
    return f"; PaddleSeg alone: {failed[0] if failed else 'passes'}".replace("|", "/")


def summary(rows: dict[str, dict[str, Any]]) -> list[str]:
    """Counts of the table."""

    def count(step: str) -> Counter[bool]:
        return Counter(not row[step] for row in rows.values() if step in row)

    lines = [f"{len(rows)} ymls, {sum(r.get('note') == NO_MODEL for r in rows.values())} bases"]
    for step in STEPS:
        good = count(step)
        lines.append(f"{step}: {good[True]} of {good.total()}")
    run = [row for row in rows.values() if "network" in row]
    passed = sum(all(row.get(step) == "" for step in RUN_STEPS) for row in run)
    lines.append(f"distinct networks: {passed} of {len(run)} pass every step")
    return lines


if __name__ == "__main__":
    run_command(main)
