"""Images in a folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from memkern._util.text import first_of
from memkern.audit.data.decode import SUFFIXES
from memkern.audit.data.reader import Reader, wants_labels
from memkern.audit.data.readers._files import source_of_files
from memkern.audit.data.readers._shards import is_folder_of_shards
from memkern.audit.data.readers._tree import Tree, order_of, walk
from memkern.audit.data.readers.saved_data_set import is_saved_data_set
from memkern.audit.data.source import Source, with_labels
from memkern.audit.encoders.spec import Spec
from memkern.errors import DataError


def _takes(path: Path) -> bool:
    return path.is_dir() and not is_saved_data_set(path) and not is_folder_of_shards(path)


def _open(spec: Spec) -> Source:
    root, tree = spec.path, walk(spec.path)
    order = sorted(range(len(tree.names)), key=lambda row: order_of(tree.names[row]))
    tops = {name.partition("/")[0] for name in tree.names if "/" in name}
    beside = {row for row in order if "/" not in tree.names[row]}
    if len(tops) > 1 and 0 < len(beside) < len(order) / 2 and wants_labels(spec):
        # Class folders stay classes: torchvision's ImageFolder does not see images beside them either.
        tree.left_out["images beside the class folders"] += len(beside)
        order = [row for row in order if row not in beside]
    if not order:
        saved = [each.name for each in sorted(root.iterdir()) if each.is_dir() and is_saved_data_set(each)]
        if saved:
            raise DataError(
                f"Expected images under {root}, got data sets that `datasets` saved: {first_of(saved)}; name one"
            )
        raise DataError(
            f"Expected images under {root}, got none with the endings {', '.join(sorted(SUFFIXES))}{_found(tree)}"
        )
    names = [tree.names[row] for row in order]
    source = source_of_files(
        spec,
        names,
        [str(root / name) for name in names],
        keys=[tree.keys[row] for row in order],
        sizes=[tree.sizes[row] for row in order],
    )
    source = replace(source, left_out=tuple(sorted(tree.left_out.items())))
    classes = [each.partition("/")[0] for each in source.ids if "/" in each]
    if len(classes) == len(source) and len(set(classes)) > 1 and wants_labels(spec):
        return with_labels(source, classes, None)
    return source


def _found(tree: Tree) -> str:
    """Lists what else was found, for the message that no image was."""
    return (
        f"; there are {', '.join(f'{n} {what}' for what, n in sorted(tree.left_out.items()))}" if tree.left_out else ""
    )


READER = Reader(
    name="folder",
    summary="images in a folder, nested as you like; the folders right in it are classes",
    example="DIR",
    package="pillow",
    open=_open,
    takes=_takes,
    exif="ignore",
)
