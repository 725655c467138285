"""One row per fault, and the table that they make."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reliability.md"
ROWS = ROOT / "docs" / "reliability.json"
_BEGIN = "<!-- made by `make faults` -->"
_END = "<!-- end -->"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What a fault did. Seconds; None is "nobody had to notice" or "does not apply"."""

    name: str
    what: str
    requests: int
    failed: int
    noticed: float | None
    healed: float | None
    acknowledged: int
    lost: int
    note: str = ""
    date: str = ""

    def line(self) -> str:
        """The row in Markdown."""
        cells = (
            self.what,
            f"{self.requests:,}" if self.requests else "-",
            str(self.failed) if self.requests else "-",
            _seconds(self.noticed),
            _seconds(self.healed),
            f"{self.lost} of {self.acknowledged:,}" if self.acknowledged else "-",
            self.note,
            self.date,
        )
        return f"| {' | '.join(cells)} |"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} s"


def known() -> dict[str, Row]:
    """The rows of earlier runs, by name."""
    if not ROWS.exists():
        return {}
    return {item["name"]: Row(**item) for item in json.loads(ROWS.read_text())}


def record(rows: list[Row], order: list[str]) -> None:
    """Put rows into the table, each in place of the one of an earlier run."""
    merged = known() | {row.name: row for row in rows}
    listed = [merged[name] for name in order if name in merged]
    ROWS.write_text(json.dumps([asdict(row) for row in listed], indent=1) + "\n")
    text = PAGE.read_text()
    columns = (
        "fault",
        "requests",
        "failed",
        "noticed after",
        "whole again after",
        "acknowledged commits lost",
        "",
        "date",
    )
    head = f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|\n"
    table = head + "\n".join(row.line() for row in listed)
    before, rest = text.split(_BEGIN)
    PAGE.write_text(f"{before}{_BEGIN}\n\n{table}\n\n{_END}{rest.split(_END)[1]}")
