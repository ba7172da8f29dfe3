"""A mask that is one annotation of many in a file, as SA-1B has them."""

from __future__ import annotations

from hqdata import codecs
from hqdata.bundles.annotations import NotesError, read_notes
from hqdata.bundles.names import member_of
from hqdata.masks import Mask
from hqdata.normalise import ProblemError, Settings
from hqdata.problems import ProblemKind
from hqdata.rle import RleError

CHANGES = "coco-rle, png"


def annotated_mask(data: bytes, path: str, annotation_id: int, settings: Settings) -> Mask:
    """The mask of one annotation.

    Args:
        data: bytes of the picture's json.
        path: of the json, its file name at the end; what follows a `#` is no part of it.
        annotation_id: the annotation's own id.
        settings: bound the size of what is decoded.

    Raises:
        ProblemError: the json is not that picture's, lacks the annotation, or its runs are damaged.
    """
    member = member_of(path.partition("#")[0].rpartition("/")[2])
    if member is None:
        raise ValueError(f"no json of SA-1B: {path}")
    try:
        annotation = read_notes(data, member[0]).annotation(annotation_id)
        height, width = annotation.segmentation.size
        codecs.check_pixels((width, height), settings.max_pixels)
        values = annotation.mask()
    except codecs.TooLargeError as error:
        raise ProblemError(ProblemKind.TOO_LARGE, f"the mask: {error}") from error
    except (NotesError, RleError) as error:
        raise ProblemError(ProblemKind.UNREADABLE_MASK, str(error)) from error
    return Mask(values, codecs.encode_png(values), CHANGES)
