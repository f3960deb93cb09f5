"""Addresses of the event log's page."""

from __future__ import annotations

from django.urls import path

from live import views

urlpatterns = [
    path("events", views.event_page, name="events"),
    path("events/keys.json", views.event_keys, name="event-keys"),
]
