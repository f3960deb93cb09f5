"""URLs of networks."""

from __future__ import annotations

from django.urls import path

from networks import views

urlpatterns = [
    path("networks", views.networks, name="networks"),
    path("networks/table", views.networks_table, name="networks-table"),
    path("networks/new", views.network_new, name="network-new"),
    path("networks/<uuid:network_id>", views.network_detail, name="network"),
    path("networks/<uuid:network_id>/parts/<slug:part>", views.network_part, name="network-part"),
    path("networks/<uuid:network_id>/remove", views.network_remove, name="network-remove"),
]
