# SPDX-License-Identifier: GPL-2.0-or-later
"""What a test wants decides what must come up: dom0 alone, or its toolstack and domUs as well.

The fixtures of a test tell.  ``xen`` offers the whole host, so a test or a fixture that asks for
it may use all of it, unless the fixture is marked:

    @pytest.fixture
    @dom0_is_enough()
    def dom0(xen): ...
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import pytest

_MARK = "_dom0_is_enough"
_HOST = "xen"
_Function = TypeVar("_Function", bound=Callable[..., Any])


def dom0_is_enough(*params: str) -> Callable[[_Function], _Function]:
    """Mark the function of a fixture that uses nothing but dom0; with ``params``, only with these.

    To be written below ``@pytest.fixture``.
    """

    def mark(function: _Function) -> _Function:
        setattr(function, _MARK, params)
        return function

    return mark


def wants_more_than_dom0(item: pytest.Item) -> bool:
    """Return whether ``item`` may use dom0's toolstack or a domU."""
    known = getattr(item, "_fixtureinfo", None)
    if known is None:
        return False
    spec = getattr(item, "callspec", None)
    params: Mapping[str, object] = spec.params if spec is not None else {}
    return any(_wants(name, known.name2fixturedefs, params) for name in known.initialnames)


def _wants(
    name: str, known: Mapping[str, Any], params: Mapping[str, object], seen: tuple[str, ...] = ()
) -> bool:
    if name == _HOST:
        return True
    if name in seen or not known.get(name):
        return False
    fixture = known[name][-1]
    enough = getattr(fixture.func, _MARK, None)
    if enough is not None and (not enough or params.get(name) in enough):
        return False
    return any(_wants(other, known, params, (*seen, name)) for other in fixture.argnames)
