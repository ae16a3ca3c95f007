"""How uvicorn serves: its protocol, its patience, and TLS."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

from scorer.config import Config, ConfigError
from scorer.connections import Impatient
from scorer.sections import TLSConfig


def options(config: Config) -> dict[str, Any]:
    """Of `uvicorn.Config`. Raises ConfigError for certificates that cannot be used."""
    return {
        "http": Impatient,
        "ws": "none",
        "log_config": None,
        "log_level": "warning",
        "access_log": False,
        "server_header": False,
        "timeout_keep_alive": 75,  # longer than the plugin keeps a connection, so that it never meets a closing one
        "timeout_graceful_shutdown": 10,
        **(_secured(config.tls) if config.tls else {}),
    }


def _secured(tls: TLSConfig) -> dict[str, Any]:
    _check(tls)
    return {
        "ssl_certfile": tls.certificate,
        "ssl_keyfile": tls.key,
        "ssl_keyfile_password": tls.key_password,
        "ssl_ca_certs": tls.client_ca,
        "ssl_cert_reqs": ssl.CERT_REQUIRED if tls.client_ca else ssl.CERT_NONE,
    }


def _check(tls: TLSConfig) -> None:
    """Before anything is loaded, and without a question at the terminal for a password."""
    for field in ("certificate", "key", "client_ca"):
        _check_file(f"tls.{field}", getattr(tls, field))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(tls.certificate, tls.key, lambda: tls.key_password or "")
        if tls.client_ca:
            context.load_verify_locations(tls.client_ca)
    except ssl.SSLError as error:
        reason = (error.reason or "no PEM, or another password").replace("_", " ").lower()
        raise ConfigError(f"tls: certificates and key do not load, or not together: {reason}") from None


def _check_file(where: str, path: Path | None) -> None:
    try:
        if path:
            path.open("rb").close()
    except OSError as error:
        raise ConfigError(f"{where}: {path}: {error.strerror}") from None
