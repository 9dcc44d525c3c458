# SPDX-License-Identifier: GPL-2.0-or-later
"""Formulas over variables and thread counts: written as text, evaluated or put into Promela.

The text is a Python expression made of comparisons, ``and``, ``or``, ``not``, ``+``, ``-`` and
``*``, so that it can be read beside the C that it stands for.  A name is a variable, a constant
of the system (``W``), or a tag: a tag stands for the number of threads that are at a step with
this tag now.  ``u(x)`` is ``x`` as C compares it when it is unsigned: its low 32 bits.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Mapping
from functools import cache
from typing import Any

UNSIGNED = 0xFFFFFFFF
_COMPARE: dict[type[ast.cmpop], str] = {
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Eq: "==",
    ast.NotEq: "!=",
}
_ARITHMETIC: dict[type[ast.operator], str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*"}


class FormulaError(Exception):
    """A formula that cannot be read, or that names something which is not declared."""


def check(text: str, declared: Collection[str]) -> None:
    """Raise FormulaError unless ``text`` is a formula ("" is: always) over ``declared`` names."""
    compile_numpy(text)
    unknown = [name for name in names_of(text) if name not in declared]
    if unknown:
        raise FormulaError(
            f"{text!r}: {' and '.join(unknown)} is no variable, constant or tag here; "
            f"declared are {', '.join(sorted(declared))}"
        )


@cache
def compile_numpy(text: str) -> Callable[[Mapping[str, Any]], Any]:
    """Return ``text`` as a function of its names' values: whole numbers or numpy arrays."""
    code = compile(_numpy(_parse(text)), f"<{text}>", "eval")

    def evaluate(names: Mapping[str, Any]) -> Any:
        return eval(code, {"__builtins__": {}}, names)  # only what _numpy() wrote

    return evaluate


@cache
def names_of(text: str) -> tuple[str, ...]:
    """Return the names in ``text``, sorted."""
    found = {node.id for node in ast.walk(_parse(text)) if isinstance(node, ast.Name)}
    return tuple(sorted(found - {"u"}))


def to_promela(text: str, name: Callable[[str], str]) -> str:
    """Return ``text`` in Promela; ``name`` translates each name."""
    return _promela(_parse(text), name)


@cache
def _parse(text: str) -> ast.expr:
    try:
        return ast.parse(text or "1 == 1", mode="eval").body
    except SyntaxError as error:
        raise FormulaError(f"{text!r}: not a formula: {error.msg}") from error


def _numpy(node: ast.expr) -> str:
    match node:
        case ast.BoolOp(op, values):
            sign = " & " if isinstance(op, ast.And) else " | "
            return "(" + sign.join(_numpy(value) for value in values) + ")"
        case ast.UnaryOp(ast.Not(), operand):
            return f"(({_numpy(operand)}) == 0)"
        case ast.UnaryOp(ast.USub(), operand):
            return f"(-{_numpy(operand)})"
        case ast.Compare(left, [op], [right]) if type(op) in _COMPARE:
            return f"({_numpy(left)} {_COMPARE[type(op)]} {_numpy(right)})"
        case ast.BinOp(left, operator, right) if type(operator) in _ARITHMETIC:
            return f"({_numpy(left)} {_ARITHMETIC[type(operator)]} {_numpy(right)})"
        case ast.Call(ast.Name("u"), [argument]):
            return f"({_numpy(argument)} & {UNSIGNED})"
        case ast.Name(name):
            return name
        case ast.Constant(int(value)):
            return str(value)
    raise _not_a_formula(node)


def _promela(node: ast.expr, name: Callable[[str], str]) -> str:
    match node:
        case ast.BoolOp(op, values):
            sign = " && " if isinstance(op, ast.And) else " || "
            return "(" + sign.join(_promela(value, name) for value in values) + ")"
        case ast.UnaryOp(ast.Not(), operand):
            return f"!({_promela(operand, name)})"
        case ast.UnaryOp(ast.USub(), operand):
            return f"(-{_promela(operand, name)})"
        case ast.Compare(left, [op], [right]):
            return f"({_promela(left, name)} {_COMPARE[type(op)]} {_promela(right, name)})"
        case ast.BinOp(left, operator, right):
            return f"({_promela(left, name)} {_ARITHMETIC[type(operator)]} {_promela(right, name)})"
        case ast.Call(ast.Name("u"), [argument]):
            inner = _promela(argument, name)
            return f"({inner} < 0 -> 2147483647 : {inner})"
        case ast.Name(found):
            return name(found)
        case ast.Constant(int(value)):
            return str(value)
    raise _not_a_formula(node)


def _not_a_formula(node: ast.expr) -> FormulaError:
    return FormulaError(
        f"{ast.unparse(node)!r} cannot stand in a formula: only comparisons of two values, "
        "and, or, not, +, -, * and u()"
    )
