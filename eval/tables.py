"""One table, two languages: Markdown for people, LaTeX (booktabs) for the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MISSING = "\N{EN DASH}"

Cell = str | int | float | None

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "\N{EN DASH}": "--",
    "±": r"$\pm$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
}


@dataclass(frozen=True)
class Table:
    """Column heads and rows of cells; a cell None is something that was not measured and prints as a dash.

    `align`: one of `l`, `r`, `c` per column (default: first left, the rest right). `notes` follow the table as a list.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    label: str = ""
    align: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"expected {len(self.columns)} cells, got {len(row)}: {row}")
        if self.align and (len(self.align) != len(self.columns) or set(self.align) - set("lrc")):
            raise ValueError(f"expected one of l, r, c for each of {len(self.columns)} columns, got {self.align!r}")

    @property
    def alignment(self) -> str:
        """One letter per column."""
        return self.align or "l" + "r" * (len(self.columns) - 1)


def number(value: float | None, digits: int = 2) -> str | None:
    """A number with fixed digits; None stays None."""
    return None if value is None else f"{value:.{digits}f}"


def spread(mean: float | None, std: float | None, digits: int = 2, scale: float = 1.0) -> str | None:
    """`mean ± std`, only the mean where there is no spread, None where there is no mean."""
    if mean is None:
        return None
    text = f"{scale * mean:.{digits}f}"
    return text if std is None else f"{text} ± {scale * std:.{digits}f}"


def interval(
    value: float | None, low: float | None, high: float | None, digits: int = 2, scale: float = 1.0
) -> str | None:
    """`value [low, high]`, only the value where there is no interval."""
    if value is None:
        return None
    text = f"{scale * value:.{digits}f}"
    return text if low is None or high is None else f"{text} [{scale * low:.{digits}f}, {scale * high:.{digits}f}]"


def to_markdown(table: Table) -> str:
    """A pipe table with its caption above and its notes below."""
    marks = {"l": ":--", "r": "--:", "c": ":-:"}
    lines = [
        f"**{table.caption}**",
        "",
        _pipes(table.columns),
        _pipes([marks[a] for a in table.alignment]),
        *(_pipes([_text(cell).replace("|", r"\|") for cell in row]) for row in table.rows),
    ]
    if table.notes:
        lines += ["", *(f"- {note}" for note in table.notes)]
    return "\n".join(lines) + "\n"


def to_latex(table: Table) -> str:
    """A floating `table` (needs the package booktabs); the notes go below the tabular."""
    heads = " & ".join(escape_latex(column) for column in table.columns)
    rows = [" & ".join(escape_latex(_text(cell)) for cell in row) + r" \\" for row in table.rows]
    lines = [
        r"\begin{table}[htbp]",
        r"\centering",
        rf"\caption{{{escape_latex(table.caption)}}}",
        *([rf"\label{{{table.label}}}"] if table.label else []),
        rf"\begin{{tabular}}{{{table.alignment}}}",
        r"\toprule",
        heads + r" \\",
        r"\midrule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}",
        *(rf"\par\smallskip\footnotesize {escape_latex(note)}" for note in table.notes),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def escape_latex(text: str) -> str:
    """Text that LaTeX prints as it stands."""
    return "".join(_LATEX.get(letter, letter) for letter in text)


def write_table(table: Table, folder: Path, stem: str) -> tuple[Path, Path]:
    """Write `folder/stem.md` and `folder/stem.tex`."""
    folder.mkdir(parents=True, exist_ok=True)
    markdown, latex = folder / f"{stem}.md", folder / f"{stem}.tex"
    markdown.write_text(to_markdown(table), encoding="utf-8")
    latex.write_text(to_latex(table), encoding="utf-8")
    return markdown, latex


def _text(cell: Cell) -> str:
    return MISSING if cell is None else str(cell)


def _pipes(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
