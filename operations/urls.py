"""URLs of operations."""

from __future__ import annotations

from django.urls import path

from operations import views

urlpatterns = [
    path("operations", views.operation_list, name="operations"),
    path("operations/rows", views.operation_rows, name="operation-rows"),
    path("operations/tray", views.operation_tray, name="operation-tray"),
    path("operations/<uuid:operation_id>", views.operation_detail, name="operation"),
    path("operations/<uuid:operation_id>/body", views.operation_body, name="operation-body"),
]
