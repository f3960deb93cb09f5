"""URLs of consoles."""

from __future__ import annotations

from django.urls import path

from consoles import views

urlpatterns = [path("vms/<uuid:vm_id>/console", views.console_frame, name="vm-console")]
