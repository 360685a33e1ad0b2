"""Images in a parquet file."""

from __future__ import annotations

from pathlib import Path

from image_data import IMAGES, LABELS, png, same_images

from memkern.audit.data.open import open_source


def test_columns_of_bytes(tmp_path: Path) -> None:
    import pyarrow as arrow
    from pyarrow import parquet

    packed = [{"bytes": png(image), "path": None} for image in IMAGES]
    parquet.write_table(arrow.table({"image": packed, "label": LABELS}), tmp_path / "x.parquet", row_group_size=2)
    parquet.write_table(arrow.table({"jpg": [png(image) for image in IMAGES]}), tmp_path / "bytes.parquet")
    for name, labels in {"x.parquet": tuple(LABELS), "bytes.parquet?images=jpg": None}.items():
        source = open_source(str(tmp_path / name))
        assert same_images(source), name
        assert source.ids == tuple("012345")
        assert source.labels == labels
