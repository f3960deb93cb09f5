"""REST: the shape of measured series. The calls are those of the measured nouns (`vms.api`, `hosts.api`)."""

import datetime as dt
import uuid
from typing import Annotated

from django.http import HttpRequest, HttpResponse
from pydantic import AwareDatetime, BaseModel, Field, NaiveDatetime

from core.rest import Output, answer, moment
from metrics import store
from metrics.rates import NAMES

Time = AwareDatetime | NaiveDatetime


class SeriesQuery(BaseModel):
    """Which time, how fine, which series."""

    start: Annotated[Time | None, Field(alias="from", description="An hour before `to` when left out.")] = None
    end: Annotated[Time | None, Field(alias="to", description="Now when left out.")] = None
    step: Annotated[int, Field(ge=1, le=86_400, description="Whole seconds.")] | None = None
    series: Annotated[str, Field(max_length=500, description=f"Several by commas: {', '.join(NAMES)}.")] = ""


class SeriesOut(Output):
    """Means of each step from `start` on, null where nothing was measured."""

    step: int = Field(description="Seconds.")
    start: dt.datetime
    series: dict[str, list[float | None]]


def series_answer(request: HttpRequest, ref: str, subject: uuid.UUID, query: SeriesQuery) -> HttpResponse:
    """The series of one subject; whoever asks is looking at it, so that it is measured more often for a while."""
    del request
    names = [name for name in (part.strip() for part in query.series.split(",")) if name]
    found = store.series(subject, start=query.start, end=query.end, step=query.step, names=names or None)
    store.looking(ref)
    return answer({"step": found["step"], "start": moment(found["start"]), "series": found["series"]})
