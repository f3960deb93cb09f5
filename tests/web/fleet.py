"""Many guests at once, for lists that must stay fast and flat."""

from __future__ import annotations

from django.utils import timezone

from core.units import GIB
from tests.factories import HostFactory, HypervisorFactory
from vms.choices import State
from vms.models import VM, VMDisk, VMNic

TAGS = (["prod", "web"], ["prod", "db"], ["staging"], [])


def fill(count: int, *, hosts: int = 4) -> list[VM]:
    """`count` guests spread over `hosts` hosts, each with a disk and an interface."""
    hypervisors = [HypervisorFactory(host=HostFactory()) for _ in range(hosts)]
    now = timezone.now()
    vms = [
        VM(
            hypervisor=hypervisors[n % hosts],
            uuid=f"00000000-0000-4000-8000-{n:012x}",
            name=f"vm-{n:05d}",
            state=State.RUNNING if n % 3 else State.SHUTOFF,
            observed_at=now,
            vcpus=1 + n % 8,
            memory_bytes=(1 + n % 16) * GIB,
            max_memory_bytes=16 * GIB,
            virtualization_type="hybrid",
            tags=TAGS[n % 4],
            os="Debian 12",
        )
        for n in range(count)
    ]
    VM.objects.bulk_create(vms, batch_size=500)
    VMDisk.objects.bulk_create((VMDisk(vm=vm, target="vda", bus="virtio") for vm in vms), batch_size=500)
    VMNic.objects.bulk_create(
        (VMNic(vm=vm, mac=f"52:54:00:{n >> 16:02x}:{n >> 8 & 255:02x}:{n & 255:02x}") for n, vm in enumerate(vms)),
        batch_size=500,
    )
    return vms
