"""Every chain of every network, one after the other, and one table of what came of them."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from paddleseg_ext.common.errors import STATUS_DONE, CheckFailed, UsageError
from paddleseg_ext.common.files import write_json
from paddleseg_ext.parity.report import Case, write_junit
from paddleseg_ext.tipc.chains import make_plan
from paddleseg_ext.tipc.plan import OUTPUT_ROOT
from paddleseg_ext.tipc.run import STATUS_NOT_RUN, Tally, run_chain

CONFIG_ROOT = Path("test_tipc/configs")


@dataclass(frozen=True)
class Entry:
    """One txt of the suite.

    Attributes:
        chain: of `chains.CHAINS`.
        file: below the network's folder.
        mode: it is run in.
    """

    chain: str
    file: str
    mode: str


# In this order: the train-infer chain leaves the checkpoint and the bundle that others start from.
ENTRIES = (
    Entry("train_infer", "train_infer_python.txt", "lite_train_lite_infer"),
    Entry("train_infer", "train_distributed_infer_python.txt", "lite_train_lite_infer"),
    Entry("train_infer", "train_amp_infer_python.txt", "lite_train_lite_infer"),
    Entry("paddle2onnx", "paddle2onnx_python.txt", "whole_infer"),
    Entry("ptq", "train_ptq_infer_python.txt", "klquant_whole_infer"),
    Entry("dy2static", "train_infer_python.txt", "lite_train_lite_infer"),
    Entry("serving", "serving_infer_python.txt", "whole_infer"),
    Entry("benchmark", "train_infer_python.txt", "benchmark_train"),
)


@dataclass(frozen=True)
class Row:
    """What came of one txt; `tally` is None where its plan could not be made."""

    network: str
    entry: Entry
    tally: Tally | None
    error: str = ""

    @property
    def state(self) -> str:
        """`passed`, `failed` or `not run`."""
        return self.tally.state if self.tally else "failed"


def networks() -> list[str]:
    """The networks that have configs."""
    return sorted(path.parent.name for path in CONFIG_ROOT.glob(f"*/{ENTRIES[0].file}"))


def run_suite(chosen: Sequence[str], chains: Sequence[str]) -> int:
    """Run the chains of the chosen networks; leaves suite.json and suite.xml.

    Returns:
        The exit status: STATUS_DONE, or STATUS_NOT_RUN where nothing could run here.

    Raises:
        CheckFailed: some failed; the table says which.
    """
    started = time.perf_counter()
    rows = []
    for network in chosen:
        for entry in ENTRIES:
            if entry.chain in chains:
                print(f"==== {network}: {entry.file} {entry.mode} ({entry.chain})", flush=True)
                rows.append(_run(network, entry))
    _write(rows, time.perf_counter() - started)
    print(_table(rows), flush=True)
    failed = [row for row in rows if row.state == "failed"]
    if failed:
        raise CheckFailed(f"{len(failed)} of {len(rows)} chains; {OUTPUT_ROOT / 'suite.json'}")
    return STATUS_DONE if any(row.state == "passed" for row in rows) else STATUS_NOT_RUN


def _run(network: str, entry: Entry) -> Row:
    """Run one txt; a plan that cannot be made (no checkpoint, say) fails alone."""
    try:
        plan = make_plan(CONFIG_ROOT / network / entry.file, entry.mode, entry.chain)
    except UsageError as error:
        print(f"failed: {error}", flush=True)
        return Row(network, entry, None, str(error))
    return Row(network, entry, run_chain(plan))


def _write(rows: Sequence[Row], seconds: float) -> None:
    cases = []
    shown = []
    for row in rows:
        suite = f"{row.network} {row.entry.file} {row.entry.chain}"
        found = row.tally.cases if row.tally else (Case(suite, "plan", failure=row.error),)
        cases += [
            Case(f"{suite}: {case.suite}", case.name, case.seconds, case.failure, case.skipped)
            for case in found
        ]
        shown.append(
            {
                "network": row.network,
                "chain": row.entry.chain,
                "file": row.entry.file,
                "mode": row.entry.mode,
                "state": row.state,
                "passed": row.tally.num_passed if row.tally else 0,
                "failed": [[case.name, case.failure] for case in found if case.failure],
                "not_run": [[case.name, case.skipped] for case in found if case.skipped],
                "seconds": round(row.tally.seconds, 1) if row.tally else 0.0,
                "log_dir": str(row.tally.plan.log_dir) if row.tally else "",
            }
        )
    write_json(OUTPUT_ROOT / "suite.json", {"seconds": round(seconds, 1), "chains": shown})
    write_junit(OUTPUT_ROOT / "suite.xml", cases)


def _table(rows: Sequence[Row]) -> str:
    lines = [f"{'network':<24}{'txt':<38}{'chain':<13}{'passed':>7}{'failed':>7}{'not run':>8}  s"]
    for row in rows:
        tally = row.tally
        counts = (tally.num_passed, len(tally.failed), len(tally.skipped)) if tally else (0, 1, 0)
        seconds = tally.seconds if tally else 0.0
        lines.append(
            f"{row.network:<24}{row.entry.file:<38}{row.entry.chain:<13}"
            f"{counts[0]:>7}{counts[1]:>7}{counts[2]:>8}  {seconds:.0f} {row.state.upper()}"
        )
    return "\n".join(lines)
