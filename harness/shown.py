# SPDX-License-Identifier: GPL-2.0-or-later
"""What people are shown: no command to their terminal, and no secret of an address.

Consoles, journals and foreign runs are full of control characters, and a terminal obeys them: they
clear the screen, retitle windows, or hide what stands there.  Addresses of git repositories may
hold a password or a token.
"""

from __future__ import annotations

import re
from typing import Any

# C0 and C1 controls except tab and newline; what turns the direction of text; line separators.
# Lone surrogates, which no terminal takes.
_NOT_PRINTABLE = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u2029\ud800-\udfff]"
)
# The part of an address before its last "@" (RFC 3986, 3.2.1).  Bounded, so that a long line of a
# console takes no longer than its length.
_USER = re.compile(r"(?P<scheme>\b[A-Za-z][A-Za-z0-9+.-]{0,20})://(?P<user>[^\s/?#\"'<>\\]*)@")
_HIDDEN = "***"


def shown(text: str) -> str:
    """Return ``text`` (lines) as a terminal, a mail or a log may show it."""
    return printable(without_secrets(text))


def printable(text: str) -> str:
    r"""Return ``text`` with every control character written as its escape, like \x1b.

    Tabs and ends of lines stay.
    """
    return _NOT_PRINTABLE.sub(_escape, text)


def without_secrets(text: str) -> str:
    """Return ``text`` with *** in place of passwords and tokens in addresses.

    In an address of HTTP the user's name is hidden as well: a token may stand in its place.
    """
    return _USER.sub(_without_secret, text)


def without_secrets_in(document: dict[str, Any]) -> dict[str, Any]:
    """Return ``document`` (a JSON object) with ``without_secrets`` of every string in it."""
    return {name: _inside(value) for name, value in document.items()}


def _inside(value: Any) -> Any:
    if isinstance(value, str):
        return without_secrets(value)
    if isinstance(value, dict):
        return without_secrets_in(value)
    return [_inside(each) for each in value] if isinstance(value, list | tuple) else value


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()


def _without_secret(found: re.Match[str]) -> str:
    scheme, user = found["scheme"], found["user"]
    if scheme.lower() in ("http", "https"):
        user = _HIDDEN
    elif ":" in user:
        user = f"{user.partition(':')[0]}:{_HIDDEN}"
    return f"{scheme}://{user}@"
