"""URLs of images."""

from __future__ import annotations

from django.urls import path

from images import views

urlpatterns = [
    path("images", views.image_list, name="images"),
    path("images/table", views.image_table, name="image-table"),
    path("images/<uuid:image_id>", views.image_detail, name="image"),
    path("images/<uuid:image_id>/<slug:part>", views.image_part, name="image-part"),
]
