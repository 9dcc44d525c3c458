# SPDX-License-Identifier: GPL-2.0-or-later
"""Find the assertion of a test case that failed: its source text, not the printed values."""

from __future__ import annotations

import ast
import traceback
from collections.abc import Iterator
from pathlib import Path

from harness.evidence import Assertion


def failed(error: BaseException, file: Path) -> Assertion | None:
    """Return the statement of test file ``file`` in which ``error`` was raised, the innermost one;
    None if it was raised elsewhere, or the source cannot be read.

    >>> assert refused(raw.send, port) == EINVAL    ->  "refused(raw.send, port) == EINVAL"
    >>> with pytest.raises(AgentRefused):           ->  "pytest.raises(AgentRefused)"
    """
    frames = traceback.extract_tb(error.__traceback__)
    inner = next((each for each in reversed(frames) if Path(each.filename) == file), None)
    if inner is None or inner.lineno is None:
        return None
    try:
        tree = ast.parse(file.read_text())
    except (OSError, SyntaxError, UnicodeDecodeError):
        return None
    around = [each for each in _statements(tree) if _spans(each, inner.lineno)]
    if not around:
        return None
    statement = min(around, key=lambda each: (each.end_lineno or each.lineno) - each.lineno)
    return Assertion(
        file=file.name,
        function=inner.name,
        line=statement.lineno,
        expression=_claim(statement),
    )


def _statements(tree: ast.AST) -> Iterator[ast.stmt]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.stmt))


def _spans(statement: ast.stmt, line: int) -> bool:
    return statement.lineno <= line <= (statement.end_lineno or statement.lineno)


def _claim(statement: ast.stmt) -> str:
    """Return the expression that ``statement`` asserts; of a compound one, its first line."""
    match statement:
        case ast.Assert():
            return ast.unparse(statement.test)
        case ast.With():
            return ", ".join(ast.unparse(item.context_expr) for item in statement.items)
        case ast.For():
            return ast.unparse(statement.iter)
        case ast.If() | ast.While():
            return ast.unparse(statement.test)
        case _:
            return ast.unparse(statement).partition("\n")[0]
