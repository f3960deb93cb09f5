"""Rows for tests, made as the services make them. Each package adds its own."""

from __future__ import annotations

from functools import cache
from typing import Any
from uuid import uuid4

import factory
from django.contrib.auth.hashers import make_password
from django.utils import timezone

from accounts.choices import Role, Scope
from accounts.models import ApiToken, User
from core.units import GIB
from drivers.types import Feature
from hosts.choices import LinkState
from hosts.models import Host, Hypervisor
from networks.models import Network, NetworkFilter
from storage.models import StoragePool, Volume
from vms.models import VM

PASSWORD = "correct horse battery staple"


@cache
def hashed(password: str) -> str:
    """Hashed once a process: Argon2 takes 50 ms and 100 MB each time, on purpose."""
    return make_password(password)


class UserFactory(factory.django.DjangoModelFactory[User]):
    """A viewer with the password PASSWORD."""

    class Meta:
        model = User

    username = factory.Sequence(lambda n: f"user{n}")
    role = Role.VIEWER
    password = factory.LazyFunction(lambda: hashed(PASSWORD))


class TokenFactory(factory.django.DjangoModelFactory[ApiToken]):
    """A token of an administrator with scope `admin`; what a client sends is in `secret`."""

    class Meta:
        model = ApiToken

    user = factory.SubFactory(UserFactory, role=Role.ADMINISTRATOR)
    name = factory.Sequence(lambda n: f"token{n}")
    scope = Scope.ADMIN

    @classmethod
    def _create(cls, model_class: type[ApiToken], *args: Any, **kwargs: Any) -> ApiToken:
        secret = kwargs.pop("secret", None) or ApiToken.new_secret()
        kwargs |= {"digest": ApiToken.digest_of(secret), "hint": secret[:8]}
        token = super()._create(model_class, *args, **kwargs)
        token.secret = secret  # type: ignore[attr-defined]
        return token


class HostFactory(factory.django.DjangoModelFactory[Host]):
    """A machine that can be reached."""

    class Meta:
        model = Host

    name = factory.Sequence(lambda n: f"host{n}")
    state = LinkState.ONLINE
    cpu_count = 8
    memory_total_bytes = 64 * GIB


ALL_SUPPORTED: dict[str, Any] = {str(feature): {"supported": True, "reason": ""} for feature in Feature}


class HypervisorFactory(factory.django.DjangoModelFactory[Hypervisor]):
    """An online hypervisor of the driver `fake`, which can do everything."""

    class Meta:
        model = Hypervisor

    host = factory.SubFactory(HostFactory)
    driver = "fake"
    uri = factory.Sequence(lambda n: f"fake:///{n}")
    state = LinkState.ONLINE
    virtualization_type = "hybrid"
    techniques = factory.List(["full_virtualization", "hardware_assisted", "kernel_based"])
    capabilities = factory.LazyFunction(lambda: dict(ALL_SUPPORTED))


class VMFactory(factory.django.DjangoModelFactory[VM]):
    """A guest that is off."""

    class Meta:
        model = VM

    hypervisor = factory.SubFactory(HypervisorFactory)
    uuid = factory.LazyFunction(lambda: str(uuid4()))
    name = factory.Sequence(lambda n: f"guest{n}")
    virtualization_type = "hybrid"
    state = "shutoff"
    observed_at = factory.LazyFunction(timezone.now)
    vcpus = 2
    memory_bytes = 2 * GIB
    max_memory_bytes = 2 * GIB


class PoolFactory(factory.django.DjangoModelFactory[StoragePool]):
    """A running pool of files, a quarter full."""

    class Meta:
        model = StoragePool

    hypervisor = factory.SubFactory(HypervisorFactory)
    host = factory.SelfAttribute("hypervisor.host")
    uuid = factory.LazyFunction(lambda: str(uuid4()))
    name = factory.Sequence(lambda n: f"pool{n}")
    type = "dir"
    state = "running"
    capacity_bytes = 100 * GIB
    allocation_bytes = 25 * GIB
    available_bytes = 75 * GIB
    target = factory.LazyAttribute(lambda pool: f"/pools/{pool.name}")
    formats = factory.List(["qcow2", "raw"])
    autostart = True
    observed_at = factory.LazyFunction(timezone.now)
    volumes_observed_at = factory.LazyFunction(timezone.now)


class VolumeFactory(factory.django.DjangoModelFactory[Volume]):
    """A file of 10 GiB."""

    class Meta:
        model = Volume

    pool = factory.SubFactory(PoolFactory)
    name = factory.Sequence(lambda n: f"volume{n}.qcow2")
    path = factory.LazyAttribute(lambda volume: f"{volume.pool.target}/{volume.name}")
    format = "qcow2"
    capacity_bytes = 10 * GIB
    allocation_bytes = GIB
    observed_at = factory.LazyFunction(timezone.now)


class NetworkFilterFactory(factory.django.DjangoModelFactory[NetworkFilter]):
    """A filter that nobody uses."""

    class Meta:
        model = NetworkFilter

    hypervisor = factory.SubFactory(HypervisorFactory)
    host = factory.SelfAttribute("hypervisor.host")
    uuid = factory.LazyFunction(lambda: str(uuid4()))
    name = factory.Sequence(lambda n: f"filter{n}")
    xml = "<filter/>"
    observed_at = factory.LazyFunction(timezone.now)


class NetworkFactory(factory.django.DjangoModelFactory[Network]):
    """A running NAT network with DHCP."""

    class Meta:
        model = Network

    hypervisor = factory.SubFactory(HypervisorFactory)
    host = factory.SelfAttribute("hypervisor.host")
    uuid = factory.LazyFunction(lambda: str(uuid4()))
    name = factory.Sequence(lambda n: f"net{n}")
    active = True
    mode = "nat"
    bridge = "virbr0"
    addresses = factory.List(["192.168.122.1/24"])
    dhcp = True
    autostart = True
    observed_at = factory.LazyFunction(timezone.now)
