"""Every environment value that we read, typed and documented in one place. Prefix `VMM_`. Wrong values end the start with a sentence."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured
from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

BASE_DIR = Path(__file__).resolve().parent.parent


class Unusable(ImproperlyConfigured):
    """Something given from outside (a variable, a file, a port) cannot be used. The message is all that the user needs."""


class Environment(BaseSettings):
    """What can be set from outside. The README's table is made from the descriptions here."""

    model_config = SettingsConfigDict(env_prefix="VMM_", extra="ignore", env_ignore_empty=True)

    bind: str = Field("127.0.0.1:8000", description="Address and port. Beyond loopback only with TLS or a public URL.")
    tls_cert: Path | None = Field(None, description="Certificate chain (PEM) to serve HTTPS with.")
    tls_key: Path | None = Field(None, description="Its private key (PEM).")
    public_url: str = Field(
        "", description="The https address that a proxy answers at; host, Origin and cookies follow from it."
    )
    data_dir: Path = Field(BASE_DIR / "var", description="Database, key file, uploads on their way; mode 0700.")
    key_file: Path | None = Field(
        None, description="The key that encrypts secrets at rest; default `key` in the data directory."
    )
    admin_password: str = Field(
        "", repr=False, description="Password of the first administrator, used only while no user exists."
    )
    local_host: Literal["auto", "none"] = Field(
        "auto", description="Whether this machine is registered as the first host."
    )
    database_url: str = Field("", repr=False, description="PostgreSQL; unset: SQLite in the data directory.")
    redis_url: str = Field("", repr=False, description="Redis for broker, channel layer and cache; unset: in process.")
    sample_seconds: float = Field(5.0, ge=1, le=300, description="How often guests and hosts are measured.")
    samples_keep_seconds: int = Field(3900, ge=60, description="How long samples are kept.")
    events_keep_days: int = Field(30, ge=1, description="How long events are kept.")
    audit_keep_days: int = Field(365, ge=1, description="How long audit events are kept.")
    operations_keep_days: int = Field(90, ge=1, description="How long ended operations are kept.")
    upload_max_bytes: int = Field(
        256 * 1024**3, ge=1, description="How long one uploaded or fetched file may be, in bytes."
    )
    image_max_virtual_bytes: int = Field(
        4 * 1024**4, ge=1, description="How large a disk an image may claim to be, in bytes; more is taken for a trap."
    )
    bin_hours: float = Field(
        24,
        ge=0,
        le=24 * 366,
        description="How long deleted guests stay in the bin, in hours; 0: there is none, and they go at once.",
    )
    pool_warn_days: int = Field(
        14,
        ge=0,
        le=365,
        description="A storage pool that is full within so many days, at its pace, needs attention; 0: only one that is full does.",
    )
    revisions_keep: int = Field(50, ge=2, le=10_000, description="How many definitions of each guest are kept.")
    worker_threads: int = Field(32, ge=1, le=256, description="Operations that one worker process runs at once.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Least level that is logged.")
    debug: bool = Field(default=False, description="Django's debug pages. Never where others can reach it.")

    @field_validator("bind")
    @classmethod
    def _check_bind(cls, value: str) -> str:
        host, colon, port = value.rpartition(":")
        if not colon or not port.isdigit() or not 0 <= int(port) < 65536 or not host:
            raise ValueError("VMM_BIND is ADDRESS:PORT, for example 127.0.0.1:8000 or [::1]:8000")
        return value

    @field_validator("public_url")
    @classmethod
    def _check_public_url(cls, value: str) -> str:
        parts = urlsplit(value)
        if value and (
            parts.scheme != "https"
            or not parts.hostname
            or parts.path not in ("", "/")
            or parts.query
            or parts.username
        ):
            raise ValueError("VMM_PUBLIC_URL is https://NAME[:PORT], nothing behind it")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _check_together(self) -> Environment:
        if bool(self.tls_cert) != bool(self.tls_key):
            raise ValueError("VMM_TLS_CERT and VMM_TLS_KEY go together")
        for file in (self.tls_cert, self.tls_key):
            if file and not os.access(file, os.R_OK):
                raise ValueError(f"{file} (VMM_TLS_CERT, VMM_TLS_KEY) cannot be read")
        if not self.loopback and not self.tls_cert and not self.public_url:
            raise ValueError(
                f"VMM_BIND={self.bind} can be reached from other machines: set VMM_TLS_CERT and VMM_TLS_KEY, or VMM_PUBLIC_URL "
                "(the https address of a proxy in front)"
            )
        if bool(self.database_url) != bool(self.redis_url):
            raise ValueError("VMM_DATABASE_URL and VMM_REDIS_URL go together: several processes need both")
        return self

    @property
    def bind_host(self) -> str:
        """The address without brackets."""
        return self.bind.rpartition(":")[0].strip("[]")

    @property
    def bind_port(self) -> int:
        """The port."""
        return int(self.bind.rpartition(":")[2])

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.bind_host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.bind_host).is_loopback
        except ValueError:
            return False

    @property
    def embedded(self) -> bool:
        """Everything in one process, nothing else running."""
        return not self.database_url

    @property
    def secure(self) -> bool:
        """Whether browsers speak https to us."""
        return bool(self.tls_cert or self.public_url)
