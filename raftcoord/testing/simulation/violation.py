"""What a run ends with when a promise is broken."""

from __future__ import annotations


class Violation(Exception):
    """Something that must always hold does not. `invariant` names it as docs/simulation.md does."""

    def __init__(self, invariant: str, text: str) -> None:
        super().__init__(f"{invariant}: {text}")
        self.invariant = invariant
        self.text = text

    def __reduce__(self) -> tuple[type[Violation], tuple[str, str]]:
        return Violation, (self.invariant, self.text)
