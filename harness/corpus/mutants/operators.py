# SPDX-License-Identifier: GPL-2.0-or-later
"""The rules by which faults are made: each takes a place in a function and gives its faults there.

The rules are those of mutation testing (DeMillo, Lipton, Sayward 1978; Offutt's five sufficient
operators), and for the locks those that Bradbury, Cordy and Dingel (2006) give for concurrent
programs.  What only checks or prints (ASSERT, printk) is left alone: no guest depends on it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from tree_sitter import Node

from harness.corpus.mutants.c_source import CFile, Function, is_conditional, is_whole

OPERATORS = (
    "condition-negated",
    "relation-shifted",
    "statement-dropped",
    "lock-dropped",
    "lock-moved",
    "lock-tried",
    "argument-replaced",
    "error-changed",
    "barrier-dropped",
)

_SHIFTED = {"<": "<=", "<=": "<", ">": ">=", ">=": ">"}
_BARRIER = re.compile(r"(smp_)?(r|w|)mb|smp_mb__\w+|arch_lock_\w+_barrier")
_LOCK = re.compile(r"(evtchn_|double_evtchn_)?(read|write|spin|tryread)?_?lock(_irq|_irqsave)?")
_UNLOCK = re.compile(r"(evtchn_|double_evtchn_)?(read|write|spin)?_?unlock(_irq|_irqrestore)?")
_TRY = {
    "read_lock": "read_trylock",
    "write_lock": "write_trylock",
    "spin_lock": "spin_trylock",
    "evtchn_read_lock": "evtchn_read_trylock",
}
_TRIES = ("evtchn_read_trylock", "evtchn_tryread_lock")
_FOR_PEOPLE = re.compile(
    r"ASSERT\w*|BUG\w*|BUILD_BUG\w*|WARN\w*|[dg]*printk|printk\w*|check_lock|block_lock_speculation"
)
_DUMPS = re.compile(r"\w*(dump_|print_state)\w*")  # functions of Xen's debug keys
_ERROR = re.compile(r"E[A-Z0-9]+")
# The next one of Xen's codes for a call that is refused; of the last the first.
_CODES = ("EINVAL", "ENOENT", "ESRCH", "EBUSY", "EEXIST", "ENOSPC", "ENOMEM", "EACCES", "EPERM")
_WITH_CONDITION = (
    "if_statement",
    "while_statement",
    "do_statement",
    "for_statement",
    "conditional_expression",
)
_TRANSPARENT = ("likely", "unlikely")
_LOGICAL = ("&&", "||")


@dataclass(frozen=True)
class Fault:
    """A fault that can be made: the bytes ``start`` to ``end`` of a file become ``mutated``."""

    operator: str
    function: str
    start: int
    end: int
    mutated: str
    form: Literal["condition", "expression", "statement"]


def faults(file: CFile) -> Iterator[Fault]:
    """Yield every fault that the rules make in ``file``, function by function."""
    for function in file.functions():
        if not _DUMPS.fullmatch(function.name):
            yield from _Maker(file, function).faults()


class _Maker:
    """Makes the faults of one function."""

    def __init__(self, file: CFile, function: Function) -> None:
        self._file, self._function = file, function
        self._said = file.said

    def faults(self) -> Iterator[Fault]:
        for node in self._places(self._function.body):
            yield from self._conditions(node)
            yield from self._relations(node)
            yield from self._statements(node)
            yield from self._locks(node)
            yield from self._arguments(node)
            yield from self._errors(node)

    def _places(self, node: Node) -> Iterator[Node]:
        """Yield the nodes in which a fault may be made."""
        if node.type == "ERROR" or is_conditional(node):
            return
        if node.type == "call_expression" and _FOR_PEOPLE.fullmatch(self._called(node)):
            return
        if node.type == "expression_statement" and self._is_for_people(node):
            return
        yield node
        for child in node.named_children:
            if node.type != "case_statement" or child != node.child_by_field_name("value"):
                yield from self._places(child)

    def _is_for_people(self, statement: Node) -> bool:
        call = _only_call(statement)
        return call is not None and bool(_FOR_PEOPLE.fullmatch(self._called(call)))

    # -- expressions -------------------------------------------------------------------------

    def _conditions(self, node: Node) -> Iterator[Fault]:
        """A condition holds where it does not: whole, and each of what && and || connect."""
        if node.type in _WITH_CONDITION:
            found = [node.child_by_field_name("condition")]
        elif node.type == "binary_expression" and self._operator(node) in _LOGICAL:
            found = [node.child_by_field_name("left"), node.child_by_field_name("right")]
        else:
            return
        for condition in found:
            inner = self._bare(condition) if condition is not None else None
            if inner is not None and is_whole(inner):
                made = self._expression("condition-negated", inner, self._negated(inner))
                yield replace(made, form="condition")

    def _negated(self, node: Node) -> str:
        if node.type == "unary_expression" and self._said(node).startswith("!"):
            argument = node.child_by_field_name("argument")
            if argument is not None:
                return self._said(argument)
        said = self._said(node)
        simple = node.type in ("identifier", "call_expression", "field_expression")
        return f"!{said}" if simple else f"!({said})"

    def _bare(self, node: Node) -> Node:
        """Return ``node`` without parentheses, likely() and unlikely() around it."""
        while True:
            if node.type == "parenthesized_expression" and node.named_child_count == 1:
                node = node.named_children[0]
            elif node.type == "call_expression" and self._called(node) in _TRANSPARENT:
                arguments = _arguments(node)
                if len(arguments) != 1:
                    return node
                node = arguments[0]
            else:
                return node

    def _relations(self, node: Node) -> Iterator[Fault]:
        """A border is shifted by one: < becomes <=."""
        if node.type != "binary_expression" or not is_whole(node):
            return
        operator = node.child_by_field_name("operator")
        if operator is not None and (shifted := _SHIFTED.get(self._said(operator))):
            at = operator.start_byte - node.start_byte
            text = self._file.text[node.start_byte : node.end_byte]
            width = operator.end_byte - operator.start_byte
            said = (text[:at] + shifted.encode() + text[at + width :]).decode(errors="replace")
            yield self._expression("relation-shifted", node, said)

    def _arguments(self, node: Node) -> Iterator[Fault]:
        """An argument of a call is another variable of the same type, the nearest declared."""
        if node.type != "call_expression" or not is_whole(node):
            return
        if self._called(node) in _TRANSPARENT:
            return
        for argument in _arguments(node):
            base = _base(argument)
            if base is None:
                continue
            variables = self._file.variables(base)
            name = self._said(base)
            kind = next((one.type for one in variables if one.name == name), None)
            other = [one.name for one in variables if one.type == kind and one.name != name]
            if kind is not None and other:
                before = self._file.text[argument.start_byte : base.start_byte]
                after = self._file.text[base.end_byte : argument.end_byte]
                said = (before + other[0].encode() + after).decode(errors="replace")
                yield self._expression("argument-replaced", argument, said)

    def _errors(self, node: Node) -> Iterator[Fault]:
        """A call is refused with another error, or tells success."""
        if node.type != "unary_expression" or not self._said(node).startswith("-"):
            return
        argument = node.child_by_field_name("argument")
        if argument is None or not _ERROR.fullmatch(code := self._said(argument)):
            return
        if _has_ancestor(node, "case_statement", "value"):
            return
        at = _CODES.index(code) if code in _CODES else -1
        other = _CODES[(at + 1) % len(_CODES)]
        yield self._expression("error-changed", node, f"-{other}")
        if not _is_compared(node):
            yield self._expression("error-changed", node, "0")

    # -- statements --------------------------------------------------------------------------

    def _statements(self, node: Node) -> Iterator[Fault]:
        """A statement is dropped: an assignment, a call, a jump."""
        jumps = ("goto_statement", "break_statement", "continue_statement", "return_statement")
        if node.type not in ("expression_statement", *jumps) or not is_whole(node):
            return
        if node.type == "return_statement" and node.parent == self._function.body:
            return
        called = self._called_by(node)
        if _LOCK.fullmatch(called) or _UNLOCK.fullmatch(called):
            operator = "lock-dropped"
        elif _BARRIER.fullmatch(called):
            operator = "barrier-dropped"
        else:
            operator = "statement-dropped"
        yield self._statement(operator, node, node, "")

    def _locks(self, node: Node) -> Iterator[Fault]:
        if node.type == "call_expression" and self._called(node) in _TRIES and is_whole(node):
            said = f"({{ (void)!{self._said(node)}; true; }})"  # __must_check is content
            yield self._expression("lock-tried", node, said)
            return
        if node.type != "expression_statement" or not is_whole(node):
            return
        called = self._called_by(node)
        if (tried := _TRY.get(called)) is not None:
            said = self._said(node).replace(called, tried, 1)
            yield self._statement("lock-tried", node, node, f"(void)!{said}")
        if _LOCK.fullmatch(called) and (after := self._neighbour(node, 1)) is not None:
            yield self._swapped(node, after)
        if _UNLOCK.fullmatch(called) and (before := self._neighbour(node, -1)) is not None:
            yield self._swapped(before, node)

    def _swapped(self, first: Node, second: Node) -> Fault:
        """A lock is taken one statement later, or released one statement earlier."""
        indent = " " * first.start_point[1]
        said = f"{self._said(second)}\n{indent}{self._said(first)}"
        return self._statement("lock-moved", first, second, said)

    def _neighbour(self, node: Node, step: int) -> Node | None:
        """Return the statement after or before ``node`` that it can change places with."""
        at = node.next_named_sibling if step > 0 else node.prev_named_sibling
        while at is not None and at.type == "comment":
            at = at.next_named_sibling if step > 0 else at.prev_named_sibling
        if at is None or at.type not in ("expression_statement", "if_statement"):
            return None
        called = self._called_by(at)
        if not is_whole(at) or _LOCK.fullmatch(called) or _UNLOCK.fullmatch(called):
            return None
        return None if self._is_for_people(at) else at

    # -- what a node says --------------------------------------------------------------------

    def _called(self, call: Node) -> str:
        function = call.child_by_field_name("function")
        return self._said(function) if function is not None else ""

    def _called_by(self, statement: Node) -> str:
        """Return the function that a statement calls and does nothing else; "" if it is none."""
        call = _only_call(statement)
        return self._called(call) if call is not None else ""

    def _operator(self, node: Node) -> str:
        operator = node.child_by_field_name("operator")
        return self._said(operator) if operator is not None else ""

    def _expression(self, operator: str, node: Node, mutated: str) -> Fault:
        start, end = node.start_byte, node.end_byte
        return Fault(operator, self._function.name, start, end, mutated, "expression")

    def _statement(self, operator: str, first: Node, last: Node, mutated: str) -> Fault:
        start, end = first.start_byte, last.end_byte
        return Fault(operator, self._function.name, start, end, mutated, "statement")


def _only_call(statement: Node) -> Node | None:
    if statement.type != "expression_statement" or statement.named_child_count != 1:
        return None
    call = statement.named_children[0]
    return call if call.type == "call_expression" else None


def _arguments(call: Node) -> list[Node]:
    found = call.child_by_field_name("arguments")
    return [child for child in found.named_children if child.type != "comment"] if found else []


def _base(argument: Node) -> Node | None:
    """Return the variable that an argument is, or that the place it names is reached from."""
    at: Node | None = argument
    while at is not None and at.type != "identifier":
        if at.type not in ("pointer_expression", "field_expression", "subscript_expression"):
            return None
        at = at.child_by_field_name("argument")
    return at


def _has_ancestor(node: Node, kind: str, field: str) -> bool:
    at = node
    while at.parent is not None:
        if at.parent.type == kind and at.parent.child_by_field_name(field) == at:
            return True
        at = at.parent
    return False


def _is_compared(node: Node) -> bool:
    return node.parent is not None and node.parent.type == "binary_expression"
