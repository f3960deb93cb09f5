"""URLs of hosts."""

from __future__ import annotations

from django.urls import path

from hosts import views

urlpatterns = [
    path("hosts", views.host_list, name="hosts"),
    path("hosts/table", views.host_table, name="host-table"),
    path("hosts/new", views.host_new, name="host-new"),
    path("hosts/demo", views.host_demo, name="host-demo"),
    path("hosts/<uuid:host_id>", views.host_detail, name="host"),
    path("hosts/<uuid:host_id>/body", views.host_body, name="host-body"),
    path("hosts/<uuid:host_id>/doctor", views.host_doctor, name="host-doctor"),
    path("hosts/<uuid:host_id>/hypervisors/new", views.hypervisor_new, name="hypervisor-new"),
    path("hosts/<uuid:host_id>/hypervisors/<uuid:hypervisor_id>", views.hypervisor_edit, name="hypervisor-edit"),
    path("hosts/<uuid:host_id>/change", views.host_change, name="host-change"),
    path("hosts/<uuid:host_id>/refresh", views.host_refresh, name="host-refresh"),
    path("hosts/<uuid:host_id>/remove", views.host_remove, name="host-remove"),
]
