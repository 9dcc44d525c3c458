# SPDX-License-Identifier: GPL-2.0-or-later
"""Xen's C as it is written, before the preprocessor: its functions, and the variables in scope.

tree-sitter parses what it can and marks the rest as an error; nothing in a marked place is used.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass

import tree_sitter_c
from tree_sitter import Language, Node, Parser

# Macros that stand where C has no place for a word: the parser sees spaces instead.
_ATTRIBUTES = re.compile(
    rb"\b(cf_check|always_inline|noinline|__must_check|__read_mostly|__init|__initdata)\b"
)
_CONDITIONAL = ("preproc_if", "preproc_ifdef", "preproc_elif", "preproc_else", "preproc_elifdef")
_QUALIFIERS = re.compile(r"\b(const|static|register|volatile)\b")


@dataclass(frozen=True)
class Function:
    """A function of a file: its name, and the node of its body."""

    name: str
    body: Node
    definition: Node


@dataclass(frozen=True)
class Variable:
    """A local variable or parameter; ``type`` is without qualifiers, as "struct domain *"."""

    name: str
    type: str


class CFile:
    """One file of Xen: its bytes and what the parser made of them."""

    def __init__(self, text: bytes) -> None:
        self.text = text
        blanked = _ATTRIBUTES.sub(lambda found: b" " * len(found[0]), text)
        self._root = _parser().parse(blanked).root_node

    def functions(self) -> Iterator[Function]:
        """Yield the functions that are defined in the file, in its order."""
        for node in walk(self._root):
            body = node.child_by_field_name("body")
            declarator = node.child_by_field_name("declarator")
            if node.type != "function_definition" or body is None or declarator is None:
                continue
            if name := self._declared(declarator):
                yield Function(name, body, node)

    def said(self, node: Node) -> str:
        """Return the text of ``node``."""
        return self.text[node.start_byte : node.end_byte].decode(errors="replace")

    def variables(self, node: Node) -> list[Variable]:
        """Return the variables that can be named at ``node``, innermost first."""
        found: list[Variable] = []
        at: Node | None = node
        while at is not None and at.type != "translation_unit":
            if at.type == "compound_statement":
                before = (c for c in at.named_children if c.end_byte <= node.start_byte)
                for child in before:
                    if child.type == "declaration":
                        found += self._variables(child)
            if at.type == "function_definition":
                for child in walk(at):
                    if child.type == "parameter_declaration":
                        found += self._variables(child)
            at = at.parent
        named = {variable.name: variable for variable in reversed(found)}
        return [variable for variable in found if named[variable.name] is variable]

    def _variables(self, declaration: Node) -> list[Variable]:
        kind = declaration.child_by_field_name("type")
        if kind is None:
            return []
        base = " ".join(_QUALIFIERS.sub("", self.said(kind)).split())
        found = []
        for declarator in declaration.children_by_field_name("declarator"):
            name = self._declared(declarator)
            if name:
                found.append(Variable(name, base + _derived(declarator)))
        return found

    def _declared(self, declarator: Node) -> str:
        """Return the name that ``declarator`` declares; "" if it has none."""
        at: Node | None = declarator
        while at is not None and at.type != "identifier":
            at = at.child_by_field_name("declarator")
        return self.said(at) if at is not None else ""


def walk(node: Node) -> Iterator[Node]:
    """Yield ``node`` and everything below it that the parser understood, in the file's order."""
    if node.type == "ERROR" or node.is_missing:
        return
    yield node
    for child in node.named_children:
        yield from walk(child)


def is_whole(node: Node) -> bool:
    """Return whether the parser understood ``node``, and the preprocessor leaves it alone."""
    return not node.has_error and not any(child.type in _CONDITIONAL for child in walk(node))


def is_conditional(node: Node) -> bool:
    """Return whether the preprocessor decides if what is in ``node`` is compiled."""
    return node.type in _CONDITIONAL


def _derived(declarator: Node) -> str:
    """Return what ``declarator`` makes of its type: " *" for a pointer, " []" for an array."""
    made, at = "", declarator
    while at is not None and at.type != "identifier":
        made += {"pointer_declarator": " *", "array_declarator": " []"}.get(at.type, "")
        made += " ()" if at.type == "function_declarator" else ""
        following = at.child_by_field_name("declarator")
        if following is None:
            break
        at = following
    return made


@functools.cache
def _parser() -> Parser:
    return Parser(Language(tree_sitter_c.language()))
