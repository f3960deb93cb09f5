"""URLs of networks."""

from __future__ import annotations

from django.urls import path

from networks import filter_views, views

urlpatterns = [
    path("networks", views.networks, name="networks"),
    path("networks/table", views.networks_table, name="networks-table"),
    path("networks/new", views.network_new, name="network-new"),
    path("networks/filters", filter_views.filters, name="network-filters"),
    path("networks/filters/table", filter_views.filters_table, name="network-filters-table"),
    path("networks/filters/new", filter_views.filter_new, name="network-filter-new"),
    path("networks/filters/<uuid:filter_id>", filter_views.filter_detail, name="network-filter"),
    path("networks/filters/<uuid:filter_id>/remove", filter_views.filter_remove, name="network-filter-remove"),
    path("networks/<uuid:network_id>", views.network_detail, name="network"),
    path("networks/<uuid:network_id>/parts/<slug:part>", views.network_part, name="network-part"),
    path("networks/<uuid:network_id>/remove", views.network_remove, name="network-remove"),
]
