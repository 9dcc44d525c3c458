# SPDX-License-Identifier: GPL-2.0-or-later
"""New SSH keys for every run, one for us and one for dom0's sshd: so both ends are verified."""

from __future__ import annotations

import io
from dataclasses import dataclass

import paramiko
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)


@dataclass(frozen=True)
class RunKeys:
    """The two ed25519 keys of a run, in OpenSSH's formats."""

    user_private: str
    user_public: str
    host_private: str
    host_public: str

    @classmethod
    def new(cls) -> RunKeys:
        """Make a fresh pair of keys."""
        return cls(*_pair(), *_pair())

    def user_key(self) -> paramiko.PKey:
        """Return the key that we log in with."""
        return paramiko.Ed25519Key.from_private_key(io.StringIO(self.user_private))

    def host_key(self) -> paramiko.PKey:
        """Return the key that dom0's sshd must show."""
        return paramiko.Ed25519Key.from_private_key(io.StringIO(self.host_private))


def _pair() -> tuple[str, str]:
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return private.decode(), public.decode() + "\n"
