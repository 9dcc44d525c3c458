# SPDX-License-Identifier: GPL-2.0-or-later
"""Servers of tests end with them."""

from __future__ import annotations

import threading
import urllib.request
from http.server import BaseHTTPRequestHandler

import pytest

from tests.served import serve


class _Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Keep requests out of the test's output."""


def test_a_server_ends_with_a_test_that_is_skipped() -> None:
    before = threading.active_count()
    with pytest.raises(pytest.skip.Exception), serve(_Answers) as address:
        with urllib.request.urlopen(address) as answer:
            assert answer.status == 204
        assert threading.active_count() > before
        pytest.skip("in the middle")
    assert threading.active_count() == before
