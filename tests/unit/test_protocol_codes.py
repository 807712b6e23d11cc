"""The tables of codes: complete, unique, each error with the exception that tells callers what to do."""

from __future__ import annotations

import pytest

from raftcoord.protocol import errors
from raftcoord.protocol.errors import (
    EXCEPTION_BY_CODE,
    BadRequest,
    Code,
    Indeterminate,
    NotApplied,
    RaftcoordError,
    Rejected,
    exception_for,
)
from raftcoord.protocol.operations import OPERATIONS, Kind, Operation

NOT_ERRORS = {Code.OK, Code.WAITING}


def test_codes_are_unique_and_small() -> None:
    for table in (Code, Operation):
        assert len(table.__members__) == len(set(table))  # an alias would be a second name for one number
        assert all(0 <= number < 256 for number in table)


def test_every_error_code_has_an_exception_and_success_has_none() -> None:
    assert set(EXCEPTION_BY_CODE) == set(Code) - NOT_ERRORS


@pytest.mark.parametrize("code", sorted(set(Code) - NOT_ERRORS), ids=lambda code: code.name)
def test_the_exception_carries_the_message(code: Code) -> None:
    error = exception_for(int(code), "what happened")
    assert type(error) is EXCEPTION_BY_CODE[code]
    assert str(error) == "what happened"


def test_every_exception_is_in_exactly_one_of_the_three_classes() -> None:
    roots = {RaftcoordError, NotApplied, Indeterminate, Rejected}
    kinds = {
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, RaftcoordError) and kind not in roots
    }
    assert set(EXCEPTION_BY_CODE.values()) <= kinds
    for kind in kinds:
        assert sum(issubclass(kind, root) for root in (NotApplied, Indeterminate, Rejected)) == 1, kind


@pytest.mark.parametrize("code", [-1, 9, 1000, 2**70, Code.OK, Code.WAITING])
def test_an_unknown_status_is_a_bad_request_that_names_it(code: int) -> None:
    error = exception_for(code, "text")
    assert type(error) is BadRequest
    assert str(error) == f"unknown status {code}: text"


def test_every_operation_has_a_row_that_agrees_with_it() -> None:
    assert {spec.operation for spec in OPERATIONS.values()} == set(Operation)
    for code, spec in OPERATIONS.items():
        assert code == spec.operation
        assert len(spec.argument_names) == len(spec.argument_checks)
        assert len(set(spec.argument_names)) == len(spec.argument_names)
        waits = spec.kind in (Kind.WAIT, Kind.READ_OR_WAIT)
        assert ("wait" in spec.argument_names) == waits, spec
