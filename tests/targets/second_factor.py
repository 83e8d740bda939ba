"""Codes of an authenticator (RFC 6238), and the PAM module that asks for them: Google's, as it is in Debian.

    factor = SecondFactor(folder)
    with Sshd(pam=factor.service()) as sshd:
        tree.ssh(HOST, **sshd.by_password(second_factor=factor.code()))
"""
from __future__ import annotations

import base64
import hmac
import os
import struct
import time
from pathlib import Path

from support import needs

_MODULES = ("/lib/x86_64-linux-gnu/security", "/lib/aarch64-linux-gnu/security", "/usr/lib/security", "/lib64/security")


class SecondFactor:
    """One account's secret, in a file.

    Args:
        folder: where to put it; only its owner may look into it.
    """

    def __init__(self, folder: Path) -> None:
        needs.root()
        if not any(Path(place, "pam_google_authenticator.so").exists() for place in _MODULES):
            needs.lacking("pam_google_authenticator (Debian's libpam-google-authenticator)")
        self._key = os.urandom(20)
        self._file = folder / "google_authenticator"
        self._file.write_text(base64.b32encode(self._key).decode() + '\n" TOTP_AUTH\n')
        self._file.chmod(0o400)

    def service(self, prompt: str = "Verification code: ") -> str:
        """A PAM service that asks for the account's password, then with these words for a code."""
        module = f"pam_google_authenticator.so secret={self._file} user=root [authtok_prompt={prompt}]"
        return (f"auth required pam_unix.so\nauth required {module}\n"
                "account required pam_unix.so\nsession required pam_permit.so\n")  # fmt: skip

    def code(self) -> str:
        """The code of now; good for a minute before and after, too."""
        digest = hmac.digest(self._key, struct.pack(">Q", int(time.time()) // 30), "sha1")
        at = digest[-1] & 15
        number = struct.unpack(">I", digest[at : at + 4])[0] & 0x7FFFFFFF
        return f"{number % 1_000_000:06d}"
