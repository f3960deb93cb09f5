"""URLs of pages over several nouns."""

from __future__ import annotations

from django.urls import path

from dashboard import fleet, problems, views
from dashboard.topology import views as topology_views

urlpatterns = [
    path("", views.overview, name="overview"),
    path("overview/fleet", views.fleet_part, name="overview-fleet"),
    path("overview/attention", views.attention_part, name="overview-attention"),
    path("overview/capacity", views.capacity_part, name="overview-capacity"),
    path("capabilities", fleet.capabilities, name="capabilities"),
    path("capabilities/table", fleet.capabilities_part, name="capabilities-table"),
    path("capabilities.csv", fleet.capabilities_csv, name="capabilities-csv"),
    path("architecture", fleet.architecture_page, name="architecture"),
    path("architecture/body", fleet.architecture_body, name="architecture-body"),
    path("advise", fleet.advise_page, name="advise"),
    path("advise/answer", fleet.advise_part, name="advise-answer"),
    path("topology", topology_views.topology, name="topology"),
    path("topology/counts.json", topology_views.counts, name="topology-counts"),
    path("topology/hosts/<uuid:host_id>", topology_views.lane_part, name="topology-lane"),
    path("problems", problems.problem_list, name="problems"),
    path("problems/<slug:code>", problems.problem_page, name="problem"),
    path("nav.json", views.nav_counts, name="nav-counts"),
    path("palette.json", views.palette_items, name="palette"),
]
