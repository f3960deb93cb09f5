"""What goes over the pipe between us and a child process that holds a hypervisor's library: JSON in frames, values of `drivers.types`.

Never pickle: the library in the child reads what foreign hosts send, and whoever breaks into it must get no further than the child.
What cannot be decoded raises ValueError, whatever was sent.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import struct
from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any

from drivers import errors, types

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

FRAME_BYTES_MAX = 256 * 2**20
_HEAD = struct.Struct(">I")

_DATA = {
    name: value for name, value in vars(types).items() if isinstance(value, type) and dataclasses.is_dataclass(value)
}
_WORDS = {name: value for name, value in vars(types).items() if isinstance(value, type) and issubclass(value, Enum)}
_ERRORS: dict[str, type[errors.DriverError]] = {
    name: value
    for name, value in vars(errors).items()
    if isinstance(value, type) and issubclass(value, errors.DriverError)
}


def send(stream: socket.socket, message: object) -> None:
    """Send one message. Whoever shares the stream must take turns.

    Raises:
        OSError: The other side is gone, or does not take it in time.
    """
    data = json.dumps(encode(message), ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    stream.sendall(_HEAD.pack(len(data)) + data)


def receive(stream: socket.socket) -> object:
    """The next message.

    Raises:
        EOFError: The other side is gone. OSError: the stream is broken. ValueError: what came is no message.
    """
    (size,) = _HEAD.unpack(_exactly(stream, _HEAD.size))
    if size > FRAME_BYTES_MAX:
        raise ValueError(f"A message of {size} bytes is too long.")
    data = _exactly(stream, size)
    try:
        return decode(json.loads(data.decode("utf-8", "surrogatepass")))
    except (KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise ValueError(f"What came makes no sense: {type(error).__name__}.") from error


def _exactly(stream: socket.socket, size: int) -> bytes:
    found = bytearray()
    while len(found) < size:
        piece = stream.recv(min(size - len(found), 2**20))
        if not piece:
            raise EOFError
        found += piece
    return bytes(found)


def encode(value: object) -> object:
    """A value as JSON can carry it. Raises TypeError for what has no business on the pipe."""
    match value:
        case Enum():
            made: object = {"word": type(value).__name__, "is": value.value}
        case None | bool() | int() | float() | str():
            made = value
        case bytes():
            made = {"bytes": base64.b64encode(value).decode()}
        case errors.DriverError():
            made = _encode_error(value)
        case tuple():
            made = {"tuple": [encode(item) for item in value]}
        case list():
            made = [encode(item) for item in value]
        case Mapping():
            made = {"map": [[encode(key), encode(item)] for key, item in value.items()]}
        case _ if type(value).__name__ in _DATA:
            names = [field.name for field in dataclasses.fields(_DATA[type(value).__name__])]
            made = {"data": type(value).__name__, "fields": {name: encode(getattr(value, name)) for name in names}}
        case _:
            raise TypeError(f"A {type(value).__name__} cannot be sent.")
    return made


def _encode_error(error: errors.DriverError) -> object:
    known = next(cls.__name__ for cls in type(error).__mro__ if cls.__name__ in _ERRORS)
    return {"error": known, "detail": error.detail, "context": _plain(error.context)}


def decode(value: Any) -> Any:
    """The other way round. What it answers is made of plain values and of `drivers.types` and `drivers.errors` only."""
    if isinstance(value, list):
        return [decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    for mark, make in _MAKERS.items():
        if mark in value:
            return make(value)
    raise ValueError("An unknown mark.")


_MAKERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "word": lambda value: _WORDS[value["word"]](value["is"]),
    "bytes": lambda value: base64.b64decode(value["bytes"], validate=True),
    "error": lambda value: _ERRORS[value["error"]](str(value["detail"]), **_plain(value["context"])),
    "data": lambda value: _DATA[value["data"]](**{name: decode(item) for name, item in value["fields"].items()}),
    "tuple": lambda value: tuple(decode(item) for item in value["tuple"]),
    "map": lambda value: {decode(key): decode(item) for key, item in value["map"]},
}


def _plain(context: Mapping[str, object]) -> dict[str, object]:
    return {key: item for key, item in context.items() if isinstance(item, bool | int | float | str)}
