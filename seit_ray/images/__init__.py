"""Images as they come: `list_images` lists them with labels and splits, whatever the layout of the bucket.

The manifest keeps that list as Parquet files whose rows are read in parts, the units of work; `fetch_images` gets the
encoded bytes of a slice; `decode_image` makes uint8 RGB of them. An image that cannot be used is an
`ImageError`, one row with its reason; a storage that cannot be used is a `StorageError`, and stops the work.
"""

from seit_ray.images.decode import DecodedImage, ImageError, decode_image
from seit_ray.images.fetch import fetch_images
from seit_ray.images.listing import list_images
from seit_ray.images.manifest import Manifest, load_manifest
from seit_ray.images.manifest_files import SplitListing

__all__ = [
    "DecodedImage",
    "ImageError",
    "Manifest",
    "SplitListing",
    "decode_image",
    "fetch_images",
    "list_images",
    "load_manifest",
]
