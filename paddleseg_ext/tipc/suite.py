"""Runs every chain of every network, and prints one table of the outcome."""

import time
from collections.abc import Sequence
from dataclasses import MISSING, asdict, dataclass, replace
from pathlib import Path

from paddleseg_ext.common.errors import STATUS_DONE, CheckFailed, UsageError, nearest_name
from paddleseg_ext.common.files import write_json
from paddleseg_ext.common.options import option
from paddleseg_ext.parity.report import Case, write_junit
from paddleseg_ext.tipc.chains import CHAINS, ChainRequest, make_plan
from paddleseg_ext.tipc.plan import OUTPUT_ROOT, Plan
from paddleseg_ext.tipc.run import STATUS_NOT_RUN, Tally, run_chain
from paddleseg_ext.tipc.verbs import Verbs

CONFIG_ROOT = Path("test_tipc/configs")


@dataclass(frozen=True)
class Entry:
    """One txt of the suite.

    Attributes:
        chain: of `chains.CHAINS`.
        file: below the network's folder.
        mode: of the run.
    """

    chain: str
    file: str
    mode: str


# The train-infer chain comes first: it makes the checkpoint and bundle that others start from.
ENTRIES = (
    Entry("train_infer", "train_infer_python.txt", "lite_train_lite_infer"),
    Entry("train_infer", "train_distributed_infer_python.txt", "lite_train_lite_infer"),
    Entry("train_infer", "train_amp_infer_python.txt", "lite_train_lite_infer"),
    Entry("paddle2onnx", "paddle2onnx_python.txt", "whole_infer"),
    Entry("ptq", "train_ptq_infer_python.txt", "klquant_whole_infer"),
    Entry("cpp", "inference_cpp.txt", "whole_infer"),
    Entry("edge", "inference_edge.txt", "whole_infer"),
    Entry("dy2static", "train_infer_python.txt", "lite_train_lite_infer"),
    Entry("serving", "serving_infer_python.txt", "whole_infer"),
    Entry("benchmark", "train_infer_python.txt", "benchmark_train"),
)


@dataclass(frozen=True)
class SuiteOptions:
    """Options of `tipc suite`."""

    networks: Sequence[str] = option(MISSING, "which ones")
    chains: Sequence[str] = option(list(CHAINS), "which chains", choices=CHAINS)


@dataclass(frozen=True)
class ChainRow:
    """The outcome of one txt."""

    network: str
    entry: Entry
    tally: Tally


def networks() -> list[str]:
    """Returns the networks that have configs."""
    return sorted(path.parent.name for path in CONFIG_ROOT.glob(f"*/{ENTRIES[0].file}"))


def run_suite(options: SuiteOptions, verbs: Verbs) -> int:
    """Runs the chains of the chosen networks; writes suite.json and suite.xml.

    Args:
        verbs: check the flags of every command.

    Returns:
        The exit status: STATUS_DONE, or STATUS_NOT_RUN where nothing could run here.

    Raises:
        UsageError: an unknown network; the nearest is named.
        CheckFailed: some chains failed; the table lists them.
    """
    known = networks()
    for network in options.networks:
        if network not in known:
            raise UsageError(f"--networks {network}: no such network{nearest_name(network, known)}")
    started = time.perf_counter()
    rows = []
    for network in options.networks:
        for entry in ENTRIES:
            if entry.chain in options.chains:
                print(f"==== {network}: {entry.file} {entry.mode} ({entry.chain})", flush=True)
                rows.append(ChainRow(network, entry, _run(network, entry, verbs)))
    _write(rows, time.perf_counter() - started)
    print(_table(rows), flush=True)
    failed = [row for row in rows if row.tally.state == "failed"]
    if failed:
        raise CheckFailed(f"{len(failed)} of {len(rows)} chains; {OUTPUT_ROOT / 'suite.json'}")
    passed = any(row.tally.state == "passed" for row in rows)
    return STATUS_DONE if passed else STATUS_NOT_RUN


def _run(network: str, entry: Entry, verbs: Verbs) -> Tally:
    """Runs one txt; a plan that cannot be made (no checkpoint, say) fails alone."""
    try:
        request = ChainRequest(CONFIG_ROOT / network / entry.file, entry.mode, entry.chain)
        return run_chain(make_plan(request, verbs))
    except UsageError as error:
        print(f"failed: {error}", flush=True)
        case = Case("plan", "plan", failure=str(error))
        return Tally(Plan(network, OUTPUT_ROOT / network), (case,), seconds=0.0)


def _write(rows: Sequence[ChainRow], seconds: float) -> None:
    cases = []
    chains = []
    for row in rows:
        tally, entry = row.tally, row.entry
        suite = f"{row.network} {entry.file} {entry.chain}"
        cases += [replace(case, suite=f"{suite}: {case.suite}") for case in tally.cases]
        chains.append(
            {
                "network": row.network,
                **asdict(entry),
                "state": tally.state,
                "passed": tally.num_passed,
                "failed": [[case.name, case.failure] for case in tally.failed],
                "not_run": [[case.name, case.skipped] for case in tally.skipped],
                "seconds": round(tally.seconds, 1),
                "log_dir": str(tally.plan.log_dir),
            }
        )
    write_json(OUTPUT_ROOT / "suite.json", {"seconds": round(seconds, 1), "chains": chains})
    write_junit(OUTPUT_ROOT / "suite.xml", cases)


def _table(rows: Sequence[ChainRow]) -> str:
    lines = [f"{'network':<24}{'txt':<38}{'chain':<13}{'passed':>7}{'failed':>7}{'not run':>8}  s"]
    for row in rows:
        tally = row.tally
        lines.append(
            f"{row.network:<24}{row.entry.file:<38}{row.entry.chain:<13}{tally.num_passed:>7}"
            f"{len(tally.failed):>7}{len(tally.skipped):>8}  {tally.seconds:.0f} "
            f"{tally.state.upper()}"
        )
    return "\n".join(lines)
