"""Names and descriptions of snapshots: what is one for every hypervisor. One place, asked by forms, actions and drivers alike."""

from __future__ import annotations

import unicodedata
from typing import Final

LENGTH_MAX: Final = 80
"""vSphere's own limit."""
BYTES_MAX: Final = 200
"""libvirt keeps a file of this name: from 251 bytes on it fails, after the memory has been written (measured)."""
DESCRIPTION_MAX: Final = 2000
_ALSO: Final = " ._:@+()-"


def why_no_name(name: str) -> str:
    """Why this cannot be the name of a new snapshot, as a sentence; "" where it can.

    Measured with libvirt 9.0 and QEMU 7.2: of a name with a quotation mark or a backslash libvirt says yes while QEMU keeps
    nothing, and going back to it kills the guest; a name of digits alone may be taken for the number of another snapshot, and
    the guest goes back to that.
    """
    if not name.strip():
        return "A snapshot needs a name."
    if len(name) > LENGTH_MAX or len(name.encode("utf-8", "replace")) > BYTES_MAX:
        return f"A name has at most {LENGTH_MAX} characters."
    if not name[0].isalnum() or name[-1] == " ":
        return "A name begins with a letter or a digit, and does not end with a blank."
    for letter in name:
        if unicodedata.category(letter)[0] not in "LMN" and letter not in _ALSO:
            return f"A name has letters, digits, blanks and {_ALSO.strip()} in it, and nothing else."
    if name.isdigit():
        return "A name is more than a number: QEMU would take it for the number of another snapshot."
    return ""


def why_no_description(text: str) -> str:
    """Why this cannot be a description; "" where it can. XML has no control characters."""
    if len(text) > DESCRIPTION_MAX:
        return f"A description has at most {DESCRIPTION_MAX} characters."
    if any(unicodedata.category(letter) in ("Cc", "Cs", "Cn") and letter not in "\n\t" for letter in text):
        return "A description has no control characters in it."
    return ""
