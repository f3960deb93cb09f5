"""Which volumes are copies of images, for `storage.uses`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db.models import Exists, OuterRef, Q

from images.models import ImageCopy
from storage.uses import Use

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterable, Sequence

    from storage.models import StoragePool, Volume


class Copies:
    """Where images lie."""

    def uses(self, volumes: Sequence[Volume]) -> Iterable[tuple[uuid.UUID, Use]]:
        """By pool and name."""
        at = {(volume.pool_id, volume.name): volume.pk for volume in volumes}
        copies = ImageCopy.objects.filter(pool__in={pool for pool, _ in at}, volume__in={name for _, name in at})
        for pool, name, image, title in copies.order_by("image__name").values_list(
            "pool", "volume", "image", "image__name"
        ):
            if (pool, name) in at:
                yield at[pool, name], Use(type="image", id=str(image), name=title, how="image")

    def used(self) -> Q:
        """Some image's copy."""
        return Q(Exists(ImageCopy.objects.filter(pool=OuterRef("pool"), volume=OuterRef("name"))))

    def running_in(self, pool: StoragePool) -> Iterable[Use]:
        """Images do not run."""
        del pool
        return ()
