"""A table of runs as Markdown, LaTeX and CSV."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.files import write_text
from paddleseg_ext.studies.table import RunRow, Table

NOTHING = "-"
_LATEX = str.maketrans(
    {c: f"\\{c}" for c in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"}
)


def markdown_of(table: Table) -> str:
    """Pipe table, and the notes as a list."""
    rows = [[cell.replace("|", "\\|") for cell in row] for row in _cells(table, "±")]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    lines.insert(1, "|---|---|" + "---:|" * (len(rows[0]) - 2))
    return "\n".join([*lines, "", *(f"- {note}" for note in table.notes)]) + "\n"


def latex_of(table: Table) -> str:
    r"""A `tabular` with the rules of booktabs (`\usepackage{booktabs}`), the notes as comments."""
    header, *rows = (
        [cell.translate(_LATEX).replace("±", r"$\pm$") for cell in row]
        for row in _cells(table, "±")
    )
    notes = ("% " + " ".join(note.split()) for note in table.notes)
    body = [" & ".join(row) + r" \\" for row in rows]
    return "\n".join(
        [
            r"% needs \usepackage{booktabs}",
            *notes,
            rf"\begin{{tabular}}{{ll{'r' * (len(header) - 2)}}}",
            r"\toprule",
            " & ".join(header) + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def csv_of(table: Table) -> str:
    """Numbers in full: mIoU 0 to 1, parameters and multiply-adds as counts; empty for none."""
    stages = _stages(table)
    height, width = table.input_hw
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["run", "network", "iterations", "parameters", f"multiply_adds_{width}x{height}"]
        + [f"images_per_second_{stage}" for stage in stages]
        + ["score", "n", "seeds", "miou_mean", "miou_deviation"]
        + ["difference", "difference_low", "difference_high", "difference_seeds"]
    )
    for row in table.rows:
        d = row.difference
        writer.writerow(
            [row.name, row.network, row.runs[0].iterations, row.parameters, row.multiply_adds]
            + [row.speeds.get(stage) for stage in stages]
            + [
                table.score,
                len(row.scores),
                " ".join(map(str, row.scores)),
                row.mean,
                row.deviation,
            ]
            + ([d.value, d.low, d.high, d.seeds] if d else [None] * 4)
        )
    return text.getvalue()


WRITERS = {".md": markdown_of, ".tex": latex_of, ".csv": csv_of}


def check_targets(paths: Sequence[Path]) -> None:
    """Refuse a file whose suffix names no format.

    Raises:
        UsageError: naming the file.
    """
    for path in paths:
        if path.suffix not in WRITERS:
            raise UsageError(f"--save_path {path}: one of {', '.join(WRITERS)} is expected")


def _stages(table: Table) -> list[str]:
    return list(dict.fromkeys(stage for row in table.rows for stage in row.speeds))


def _cells(table: Table, plus_minus: str) -> list[list[str]]:
    """Header and rows as text; mIoU in percent."""
    stages = _stages(table)
    height, width = table.input_hw
    header = [
        "run",
        "network",
        "iterations",
        "parameters (M)",
        f"multiply-adds (G, {width}x{height})",
    ]
    header += [f"images/s {stage}" for stage in stages]
    header += ["mIoU (%)", "n"]
    compared = any(row.difference for row in table.rows)
    header += ["difference (points)"] if compared else []
    rows = [header]
    for row in table.rows:
        cells = [row.name, row.network, str(row.runs[0].iterations)]
        cells += [_scaled(row.parameters, 1e6), _scaled(row.multiply_adds, 1e9)]
        cells += [_scaled(row.speeds.get(stage), 1.0, 1) for stage in stages]
        cells += [_score(row, plus_minus), str(len(row.scores))]
        cells += [_difference(row)] if compared else []
        rows.append(cells)
    return rows


def _scaled(value: float | None, unit: float, digits: int = 2) -> str:
    return NOTHING if value is None else f"{value / unit:.{digits}f}"


def _score(row: RunRow, plus_minus: str) -> str:
    if row.mean is None:
        return NOTHING
    spread = "" if row.deviation is None else f" {plus_minus} {100 * row.deviation:.2f}"
    return f"{100 * row.mean:.2f}{spread}"


def _difference(row: RunRow) -> str:
    found = row.difference
    if found is None:
        return NOTHING
    value = f"{100 * found.value:+.2f}"
    if found.low is None or found.high is None:
        return f"{value} (1 seed)"
    return f"{value} [{100 * found.low:+.2f}, {100 * found.high:+.2f}] ({found.seeds} seeds)"


def write_tables(table: Table, paths: Sequence[Path]) -> None:
    """Write the table into files, each in the format of its suffix."""
    check_targets(paths)
    for path in paths:
        write_text(path, WRITERS[path.suffix](table))
