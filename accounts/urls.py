"""Addresses of sign-in and settings."""

from __future__ import annotations

from django.urls import path

from accounts import views

urlpatterns = [
    path("login", views.sign_in, name="login"),
    path("logout", views.sign_out, name="logout"),
    path("settings", views.settings_page, name="settings"),
    path("settings/tokens", views.token_make, name="token-make"),
    path("settings/tokens/<uuid:token_id>/revoke", views.token_revoke, name="token-revoke"),
    path("settings/password", views.password, name="password"),
    path("settings/display", views.display, name="display"),
]
