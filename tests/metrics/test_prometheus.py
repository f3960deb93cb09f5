"""`/metrics` is Prometheus text, whatever guests are called, with as many queries for ten thousand guests as for one."""

from __future__ import annotations

import pytest
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from drivers.types import GuestInfo, GuestState
from hosts.models import Host, Hypervisor
from metrics import store
from metrics.rates import Values
from operations.models import Operation
from vms import prometheus
from vms.inventory import vms_observe
from vms.models import VM

pytestmark = pytest.mark.django_db


def scrape() -> dict[str, dict[tuple, float]]:
    families = text_string_to_metric_families(prometheus.text().decode())
    return {
        family.name: {tuple(sorted(sample.labels.items())): sample.value for sample in family.samples}
        for family in families
    }


def adopt(count: int, name: str = "g{}") -> Hypervisor:
    hypervisor = Hypervisor.objects.create(
        host=Host.objects.create(name="a", cpu_count=8, state="online"), driver="fake", uri="fake:///a", state="online"
    )
    infos = [
        GuestInfo(uuid=f"u{number}", name=name.format(number), state=GuestState.RUNNING, vcpus=2, memory_bytes=1 << 30)
        for number in range(count)
    ]
    vms_observe(hypervisor, infos)
    return hypervisor


def test_guests_hosts_and_operations_are_there():
    adopt(3)
    Operation.objects.create(kind="vm.start", target="vm/x", state="failed")
    vm = VM.objects.first()
    store.append([store.NewSample(subject=vm.pk, at=timezone.now(), values=Values(cpu_ratio=0.25, memory_bytes=7))])
    found = scrape()
    assert found["vmm_vms"][(("driver", "fake"), ("host_name", "a"), ("state", "running"))] == 3
    assert found["vmm_vms"][(("driver", "fake"), ("host_name", "a"), ("state", "crashed"))] == 0
    key = (("host_name", "a"), ("name", vm.name), ("vm", str(vm.pk)))
    assert found["vmm_vm_cpu_ratio"] == {key: 0.25}
    assert found["vmm_vm_memory_bytes"] == {key: 7}
    assert found["vmm_vm_memory_assigned_bytes"][key] == 1 << 30
    assert list(found["vmm_host_up"].values()) == [1]
    assert found["vmm_operations"][(("state", "failed"),)] == 1
    assert list(found["vmm_build_info"].values()) == [1]


def test_a_name_cannot_break_out_of_its_label():
    adopt(1, 'x"}} 1\nvmm_fake{{a="\\')
    found = scrape()
    assert "vmm_fake" not in found
    [key] = found["vmm_vm_running"]
    assert dict(key)["name"] == 'x"} 1\nvmm_fake{a="\\'


def test_queries_do_not_grow_with_the_guests(django_assert_num_queries):
    adopt(300)
    with django_assert_num_queries(7):
        prometheus.text()


def test_an_empty_installation_is_valid_text():
    assert scrape()["vmm_build_info"]
