# SPDX-License-Identifier: GPL-2.0-or-later
"""The one place that makes HTML pages: every value is escaped, and every page has a policy.

A page says what histories, consoles, journals and host names say, and none of them is to be
trusted.  So every value is escaped where the template puts it in, in one pass (what a value holds
is never looked at as a template), and data for a script is JSON that cannot end its element.

Should a value get through all the same, the Content-Security-Policy of the page stops it: nothing
is loaded from anywhere, and a browser runs only those style sheets and scripts whose SHA-256 the
policy lists.  These are the files beside the templates; they are hashed before any value is known
(https://www.w3.org/TR/CSP3/, "hash-source").
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
from markupsafe import Markup

# In JSON text these characters are only inside strings, where \uXXXX means the same.  The first
# three would end the element or begin a comment, the others end a line for older scripts.
_NOT_IN_HTML = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}


@dataclass(frozen=True)
class _Frame:
    """What templates/page.html.j2 puts around the content; all of it is our own text, or JSON."""

    policy: str
    style: Markup
    script: Markup | None
    data: Markup | None


def render(
    template: str,
    values: Mapping[str, Any],
    *,
    packages: Sequence[str],
    styles: Sequence[str],
    script: str = "",
    data: Any = None,
    style_attributes: bool = False,
    filters: Mapping[str, Callable[..., Any]] | None = None,
) -> str:
    """Return the page that ``template`` makes of ``values``: one document that loads no other file.

    ``template``, ``styles`` (CSS) and ``script`` are files in the folders ``templates`` of
    ``packages``; the template extends page.html.j2.  ``data`` is a JSON value that the script finds
    in the element ``data``.  ``style_attributes``: the page has pictures with attributes ``style``.
    In the page, a character that UTF-8 does not have is written as its escape.
    """
    environment = _environment(packages)
    environment.filters.update(filters or {})
    style = "".join(_text(environment, name) for name in styles)
    code = _text(environment, script) if script else None
    frame = _Frame(
        policy=_policy(style, code, style_attributes),
        style=Markup(style),
        script=None if code is None else Markup(code),
        data=None if data is None else json_text(data),
    )
    made = environment.get_template(template).render(values, frame=frame)
    return made.encode(errors="backslashreplace").decode()  # a lone surrogate is no character


def json_text(value: Any) -> Markup:
    """Return ``value`` as JSON that is safe inside an HTML element, whatever its strings hold."""
    return Markup(json.dumps(value).translate(_NOT_IN_HTML))


def _environment(packages: Sequence[str]) -> jinja2.Environment:
    loaders = [jinja2.PackageLoader(name) for name in (*packages, __name__)]
    return jinja2.Environment(
        loader=jinja2.ChoiceLoader(loaders),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _text(environment: jinja2.Environment, name: str) -> str:
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _policy(style: str, script: str | None, style_attributes: bool) -> str:
    rules = ["default-src 'none'", f"style-src {_hash(style)}"]
    if style_attributes:
        rules.append("style-src-attr 'unsafe-inline'")
    if script is not None:
        rules.append(f"script-src {_hash(script)}")
    return "; ".join([*rules, "base-uri 'none'", "form-action 'none'"])


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
