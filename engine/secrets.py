"""Secrets at rest in the form of Pulumi's passphrase manager, so that either engine reads what the other wrote.

Form (pulumi/pulumi 3.260, sdk/go/common/resource/config/crypt.go): key = PBKDF2-SHA256(passphrase, salt, 1,000,000); a
value is AES-256-GCM, `v1:<nonce>:<ciphertext>` in base64; the salt is kept as `v1:<salt>:<"pulumi", encrypted>`,
which tells a wrong passphrase. The passphrase is PULUMI_CONFIG_PASSPHRASE or the file PULUMI_CONFIG_PASSPHRASE_FILE.
With neither, a random one is made in `<stack>.key` (mode 0600) beside the state: a run must never find out in its
middle that it cannot store what a provider returned. To hand such a stack over to Pulumi, set
PULUMI_CONFIG_PASSPHRASE_FILE to that file for `pulumi stack init` and `import`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets as random
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Protocol

from engine.api import EngineError
from engine.values import SECRET, SIG, walk

ITERATIONS = 1_000_000


class Crypter:
    """Derives its key when the first secret is met, which takes a fraction of a second."""

    def __init__(self, key_file: Path, env: Mapping[str, str], salt: str | None = None) -> None:
        self._key_file, self._env, self.salt = key_file, env, salt
        self._key: bytes | None = None

    def encrypt(self, text: str) -> str:
        return _seal(self._ready(), text)

    def decrypt(self, text: str) -> str:
        return _unseal(self._ready(), text)

    def _ready(self) -> bytes:
        if self._key is None:
            passphrase = self._passphrase()
            raw = base64.b64decode(self.salt.split(":")[1]) if self.salt else os.urandom(8)
            self._key = _derived(passphrase, raw)
            if self.salt is None:
                self.salt = f"v1:{base64.b64encode(raw).decode()}:{_seal(self._key, 'pulumi')}"
            elif _unseal(self._key, self.salt.split(":", 2)[2]) != "pulumi":
                raise EngineError("the passphrase does not open the secrets of this stack")
        return self._key

    def _passphrase(self) -> str:
        if "PULUMI_CONFIG_PASSPHRASE" in self._env:
            return self._env["PULUMI_CONFIG_PASSPHRASE"]
        if named := self._env.get("PULUMI_CONFIG_PASSPHRASE_FILE"):
            return Path(named).read_text().strip()
        if not self._key_file.exists():
            if self.salt is not None:
                raise EngineError(
                    "secrets: the stack holds encrypted values and no passphrase is known. To fix: set "
                    f"PULUMI_CONFIG_PASSPHRASE or PULUMI_CONFIG_PASSPHRASE_FILE (or restore {self._key_file})"
                )
            descriptor = os.open(self._key_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(random.token_hex(32))
                file.flush()
                os.fsync(file.fileno())
        return self._key_file.read_text().strip()

    def provider(self) -> dict[str, object] | None:
        """The entry `secrets_providers` of a deployment; none while no secret was stored."""
        return {"type": "passphrase", "state": {"salt": self.salt}} if self.salt else None


@cache
def _derived(passphrase: str, salt: bytes) -> bytes:
    """Once in a process: several runs of one stack, such as a rehearsal's, share the work."""
    return hashlib.pbkdf2_hmac("sha256", passphrase.encode(), salt, ITERATIONS, 32)


def _seal(key: bytes, text: str) -> str:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = os.urandom(12)
    sealed = AESGCM(key).encrypt(nonce, text.encode(), None)
    return f"v1:{base64.b64encode(nonce).decode()}:{base64.b64encode(sealed).decode()}"


def _unseal(key: bytes, text: str) -> str:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        version, nonce, sealed = text.split(":")
        if version != "v1":
            raise EngineError(f"secrets: form {version} is unknown; allowed: v1")
        return AESGCM(key).decrypt(base64.b64decode(nonce), base64.b64decode(sealed), None).decode()
    except (InvalidTag, ValueError) as e:
        raise EngineError(
            "secrets: the passphrase does not open the secrets of this stack. To fix: set the PULUMI_CONFIG_PASSPHRASE "
            "they were written with"
        ) from e


class Decrypts(Protocol):
    def decrypt(self, text: str) -> str: ...


def opened(value: object, crypter: Decrypts) -> object:
    """Stored secrets as the protocol writes them."""

    def change(v: object) -> object:
        if isinstance(v, dict) and v.get(SIG) == SECRET and "value" not in v:
            text = v["plaintext"] if "plaintext" in v else crypter.decrypt(v["ciphertext"])
            return {SIG: SECRET, "value": opened(json.loads(text), crypter)}  # a secret may hold secrets
        return v

    return walk(value, change)


def sealed(value: object, crypter: Crypter | None) -> object:
    """Secrets as a deployment stores them; in plain text without a crypter (`export --show-secrets`)."""

    def change(v: object) -> object:
        if isinstance(v, dict) and v.get(SIG) == SECRET and "value" in v:
            text = json.dumps(v["value"], separators=(",", ":"))
            return (
                {SIG: SECRET, "plaintext": text}
                if crypter is None
                else {SIG: SECRET, "ciphertext": crypter.encrypt(text)}
            )
        return v

    return walk(value, change)
