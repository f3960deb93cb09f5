"""URLs of guests. `vms/<id>/console` is `consoles.urls`'."""

from __future__ import annotations

from django.urls import path

from vms import views
from vms.autostart import views as autostart_views
from vms.cloning import views as template_views
from vms.creation import views as creation_views
from vms.hardware import views as hardware_views
from vms.schedules import views as schedule_views
from vms.seeds import views as seed_views
from vms.snapshots import views as snapshot_views

urlpatterns = [
    path("vms", views.vm_list, name="vms"),
    path("vms/new", creation_views.vm_new, name="vm-new"),
    path("vms/bin", views.vm_bin, name="vm-bin"),
    path("vms/rows", views.vm_rows_part, name="vm-rows"),
    path("vms/filter-keys.json", views.vm_filter_keys, name="vm-filter-keys"),
    path("vms/<uuid:vm_id>", views.vm_detail, name="vm"),
    path("vms/<uuid:vm_id>/peek", views.vm_peek, name="vm-peek"),
    path("vms/<uuid:vm_id>/parts/<slug:part>", views.vm_part, name="vm-part"),
    path("vms/<uuid:vm_id>/snapshots", snapshot_views.vm_snapshots, name="vm-snapshots"),
    path("vms/<uuid:vm_id>/snapshots/<slug:part>", snapshot_views.vm_snapshots_part, name="vm-snapshots-part"),
    path("templates", template_views.template_list, name="templates"),
    path("templates/table", template_views.template_table, name="template-table"),
    path("templates/<uuid:template_id>", template_views.template_detail, name="template"),
    path("templates/<uuid:template_id>/<slug:part>", template_views.template_part, name="template-part"),
    path("vms/<uuid:vm_id>/hardware", hardware_views.vm_hardware, name="vm-hardware"),
    path("vms/<uuid:vm_id>/hardware/<slug:part>", hardware_views.vm_hardware_part, name="vm-hardware-part"),
    path("hosts/<uuid:host_id>/starts", autostart_views.host_starts, name="host-starts"),
    path("snapshot-schedules", schedule_views.schedules, name="schedules"),
    path("snapshot-schedules/table", schedule_views.schedules_table, name="schedules-table"),
    path("snapshot-schedules/new", schedule_views.schedule_new, name="schedule-new"),
    path("snapshot-schedules/preview", schedule_views.schedule_preview, name="schedule-preview"),
    path("snapshot-schedules/<uuid:schedule_id>", schedule_views.schedule_detail, name="schedule"),
    path("snapshot-schedules/<uuid:schedule_id>/head", schedule_views.schedule_head, name="schedule-head"),
    path("vms/<uuid:vm_id>/cloud-init", seed_views.vm_cloud_init, name="vm-cloud-init"),
    path("vms/<uuid:vm_id>/cloud-init/when", seed_views.vm_cloud_init_when, name="vm-cloud-init-when"),
    path("vms/<uuid:vm_id>/xml", views.vm_xml, name="vm-xml"),
    path("vms/<uuid:vm_id>/events", views.vm_events, name="vm-events"),
]
