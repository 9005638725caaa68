"""The scenes of `tiny_maps` as tables, Parquet files and tars that hold pairs of images and label maps."""

import io

import pyarrow as pa
import pyarrow.parquet as pq

from tests.images.made_tars import tar_bytes
from tests.tiny_images import write_files
from tests.tiny_maps import camvid_files, png, scene

LAYOUTS = ("csv", "parquet of addresses", "parquet", "parquet of structs", "parquet and addresses", "tar")
MASKS = {"void": 3, "num_classes": 3}


def write_pairs(folder, layout, sizes, absent=(), first=0, maps=None):
    """{split: number} scenes in a layout, of which those of `absent` numbers have no map; (source, settings).

    maps: number -> bytes in place of the map of a scene.
    """
    numbered = iter(range(first, first + sum(sizes.values())))
    rows = [(split, seed) for split, num in sizes.items() for _, seed in zip(range(num), numbered, strict=False)]
    of_map = {seed: None if seed in absent else (maps or {}).get(seed, png(scene(seed)[1])) for _, seed in rows}
    if layout == "tar":
        for split in sizes:
            mine = [seed for name, seed in rows if name == split]
            folder.write(f"{split}-0.tar", tar_of({seed: (png(scene(seed)[0]), of_map[seed]) for seed in mine}))
        return folder, MASKS
    if layout in ("csv", "parquet of addresses"):
        write_files(folder, camvid_files(sizes, first))
        names = [(f"{split}/images/{seed:04d}.png", f"{split}/masks/{seed:04d}.png", split) for split, seed in rows]
        write_files(
            folder, {mask: of_map[seed] for (_, mask, _), (_, seed) in zip(names, rows, strict=True) if of_map[seed]}
        )
        cells = [
            (uri, None if seed in absent else mask, split)
            for (uri, mask, split), (_, seed) in zip(names, rows, strict=True)
        ]
        if layout == "csv":
            lines = ["uri,seg,split", *(f"{uri},{mask or ''},{split}" for uri, mask, split in cells)]
            folder.write("list.csv", "\n".join(lines).encode())
            return folder.join("list.csv"), {"mask_column": "seg", **MASKS}
        write_table(folder, "list.parquet", dict(zip(("uri", "mask", "split"), zip(*cells, strict=True), strict=True)))
        return folder.join("list.parquet"), MASKS
    columns = {
        "image": [png(scene(seed)[0]) for _, seed in rows],
        "mask": [of_map[seed] for _, seed in rows],
        "split": [split for split, _ in rows],
        "id": [f"{seed:04d}" for _, seed in rows],
    }
    if layout == "parquet of structs":
        columns |= {name: [{"bytes": data, "path": None} for data in columns[name]] for name in ("image", "mask")}
    if layout == "parquet and addresses":
        there = {f"maps/{seed}.png": data for seed, data in of_map.items() if data is not None}
        write_files(folder, there)
        columns["mask"] = [None if of_map[seed] is None else f"../maps/{seed}.png" for _, seed in rows]
        folder = folder.join("data")
    write_table(folder, "pairs.parquet", columns)
    return folder, {"key_column": "id", **MASKS}


def write_table(folder, name, columns, row_group_size=4):
    """A Parquet file of some rows a group."""
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, row_group_size=row_group_size)
    folder.write(name, sink.getvalue())


def tar_of(pairs, extension="seg.png"):
    """A tar of number -> (image, map or None)."""
    members = []
    for number, (image, mask) in pairs.items():
        members.append((f"{number:04d}.png", image))
        members += [] if mask is None else [(f"{number:04d}.{extension}", mask)]
    return tar_bytes(members)


def number_of(key):
    """Of the scene that a key in any of the layouts is of."""
    return int(key.rpartition("/")[2].rpartition("#")[2].removesuffix(".png"))
