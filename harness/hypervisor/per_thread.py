# SPDX-License-Identifier: GPL-2.0-or-later
"""A cache of each thread's own, for what threads must not share.

pyelftools reads an ELF file's sections through streams, each with one position, and parses as far
as it is asked; capstone's engine keeps state as well.  When Xen hangs, several threads (one for
each agent that has fallen silent) examine the CPUs at the same time.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Hashable
from typing import Any, TypeVar, cast

Function = TypeVar("Function", bound=Callable[..., Any])


def cached_per_thread(maxsize: int) -> Callable[[Function], Function]:
    """Return a decorator like functools.lru_cache, whose results are the calling thread's own:
    another thread computes them again, and they are freed when their thread has ended."""

    def decorate(function: Function) -> Function:
        own = threading.local()

        @functools.wraps(function)
        def cached(*arguments: Hashable) -> Any:
            if not hasattr(own, "call"):
                own.call = functools.lru_cache(maxsize)(function)
            return own.call(*arguments)

        return cast(Function, cached)

    return decorate
