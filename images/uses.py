"""Images and the volumes that hold them, both ways: which volumes are copies (for `storage.uses`), and what stands on an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from images.models import Image, ImageCopy
from storage.models import Volume
from storage.uses import Use, is_in, key, refuse, uses_of

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterable, Sequence

    from django.db.models import Q

    from storage.models import StoragePool


class ImageCopies:
    """Volumes that are copies of images."""

    def uses(self, volumes: Sequence[Volume]) -> Iterable[tuple[uuid.UUID, Use]]:
        """By pool and name."""
        places = {(volume.pool_id, volume.name): volume.pk for volume in volumes}
        rows = ImageCopy.objects.filter(pool__in={pool for pool, _ in places}, volume__in={name for _, name in places})
        for pool, name, image, image_name in rows.values_list("pool", "volume", "image", "image__name"):
            pk = places.get((pool, name))
            if pk is not None:
                yield pk, Use(type="image", id=str(image), name=image_name, how="image")

    def used(self) -> Q:
        """Some image's copy."""
        return is_in(("pool", "name"), ImageCopy.objects.values_list(key("pool", "volume")))

    def running_in(self, pool: StoragePool) -> Iterable[Use]:
        """Images do not run."""
        del pool
        return ()


def look_for_uses(images: Sequence[Image]) -> None:
    """Put `used_by` on each: disks and overlays that stand on one of its copies, each once. A few queries for any page."""
    by_place = {
        (pool, volume): image
        for image, pool, volume in ImageCopy.objects.filter(image__in=images).values_list("image", "pool", "volume")
    }
    rows = Volume.objects.filter(
        pool__in={pool for pool, _ in by_place}, name__in={volume for _, volume in by_place}
    ).select_related("pool")
    volumes = [row for row in rows if (row.pool_id, row.name) in by_place] if by_place else []
    found: dict[uuid.UUID, dict[str, Use]] = {image.pk: {} for image in images}
    for pk, known in uses_of(volumes).items():
        row = next(one for one in volumes if one.pk == pk)
        users = found[by_place[row.pool_id, row.name]]
        users |= {use.id: use for use in known if use.type != "image"}
    for image in images:
        image.used_by = list(found[image.pk].values())


def refuse_used(image: Image) -> None:
    """Raises InUse naming what stands on it."""
    look_for_uses([image])
    refuse(image.name, image.used_by or [])
