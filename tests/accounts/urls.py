"""A small site around the accounts package alone, so that its tests need no other: pages of every kind, and its API."""

from __future__ import annotations

import functools

from django.http import HttpResponse
from django.urls import include, path
from django.views import View
from ninja import NinjaAPI

from accounts.access import access
from accounts.answers import problem_response
from accounts.api import router
from accounts.auth import ApiAuth, authorize
from accounts.policy import PUBLIC
from core.errors import BadInput, Conflict, VmmError

api = NinjaAPI(auth=ApiAuth(), urls_namespace="accounts-tests")


def checked(function):
    @functools.wraps(function)
    def call(request, **values):
        authorize(function, request)
        return function(request, **values)

    return call


for path_view in router.path_operations.values():
    for operation in path_view.operations:
        operation.view_func = checked(operation.view_func)
api.add_router("", router)


@api.exception_handler(VmmError)
def on_error(request, error):
    return problem_response(request, error)


def who(request, **_):
    return HttpResponse(getattr(request.actor, "name", "nobody"))


class Page(View):
    def get(self, request):
        return HttpResponse("page")

    post = get


@access("view")
class MarkedPage(Page):
    pass


def broken(request):
    raise Conflict("Two at once.")


def bad(request):
    raise BadInput("No.", errors=[{"pointer": "/x", "detail": "no"}])


def page(verb):
    """A page of its own, since a mark stays on its function."""
    return access(verb)(functools.partial(who))


urlpatterns = [
    path("", include("accounts.urls")),
    path("api/v1/", api.urls),
    path("open", page(PUBLIC)),
    path("read", page("view")),
    path("act", page("vm.operate")),
    path("admin-only", page("user.manage")),
    path("unmarked", who),
    path("unmarked-class", Page.as_view()),
    path("class", MarkedPage.as_view()),
    path("wrapped", functools.wraps(access("view")(broken))(functools.partial(who))),
    path("partial", functools.partial(page("view"), word="x")),
    path("broken", access("view")(broken)),
    path("bad", access("view")(bad)),
]
