"""The outcome of the connection check, as text and as a notebook's table."""

from __future__ import annotations

import html
from dataclasses import asdict, dataclass
from typing import Any

from resume_lab.printable import printable


@dataclass(frozen=True)
class Check:
    """One check: what was seen, or why it failed and what to do. `ms` is its time."""

    name: str
    passed: bool
    ms: float
    detail: str
    hint: str = ""


@dataclass(frozen=True)
class Verification:
    """All checks in the order they ran."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Say whether every check passed."""
        return all(check.passed for check in self.checks)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"passed": self.passed, "checks": [asdict(check) for check in self.checks]}

    def __str__(self) -> str:
        """Write one line a check, and below a failed one what to do."""
        lines = []
        for check in self.checks:
            mark = "passed" if check.passed else "FAILED"
            lines.append(
                f"{mark}  {printable(check.name):<30} {check.ms:8.1f} ms  {printable(check.detail)}"
            )
            if not check.passed and check.hint:
                lines.append(f"        -> {printable(check.hint)}")
        return "\n".join([*lines, self._summary()])

    def _summary(self) -> str:
        failed = sum(not check.passed for check in self.checks)
        return f"{failed} of {len(self.checks)} checks failed." if failed else "All checks passed."

    def _repr_html_(self) -> str:
        left = "style='text-align:left'"
        rows = "".join(
            f"<tr><th scope='row' {left}>{_escaped(check.name)}</th>"
            f"<td>{'passed' if check.passed else '<b>FAILED</b>'}</td>"
            f"<td style='text-align:right'>{check.ms:.1f}</td>"
            f"<td {left}>{_escaped(check.detail)}"
            + (f"<br><i>{_escaped(check.hint)}</i>" if not check.passed and check.hint else "")
            + "</td></tr>"
            for check in self.checks
        )
        return (
            f"<table><caption {left}>{self._summary()}</caption><thead><tr>"
            f"<th scope='col' {left}>check</th><th scope='col'>result</th>"
            f"<th scope='col'>ms</th><th scope='col' {left}>what was seen</th></tr></thead>"
            f"<tbody>{rows}</tbody></table>"
        )


def _escaped(text: str) -> str:
    return html.escape(printable(text))
