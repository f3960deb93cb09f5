"""URLs of storage."""

from __future__ import annotations

from django.urls import path

from storage import views

urlpatterns = [
    path("storage", views.pools, name="storage"),
    path("storage/table", views.pools_table, name="storage-table"),
    path("storage/new", views.pool_new, name="storage-pool-new"),
    path("storage/volumes/<uuid:volume_id>", views.volume, name="volume"),
    path("storage/<uuid:pool_id>", views.pool_detail, name="storage-pool"),
    path("storage/<uuid:pool_id>/parts/<slug:part>", views.pool_part, name="storage-pool-part"),
    path("storage/<uuid:pool_id>/remove", views.pool_remove, name="storage-pool-remove"),
]
