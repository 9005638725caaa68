"""A tokenizer for people's own pipelines: a callable for `ray.data.Dataset.map_batches`, or for any loop of batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from seit_ray.images.decode import ImageError, decode_image
from seit_ray.images.records import missing_column
from seit_ray.images.resize import resize_exact
from seit_ray.storage import Folder
from seit_ray.tokenizers.files import load_tokenizer
from seit_ray.tokenizers.uploads import parts_on

ON_ERROR = ("raise", "mark")


class TokenizeBatch:
    """A batch with a column of images -> the same with a column `tokens`, uint16 [L] a row, in the order of the rows.

    tokenizer: a path, a uri or a Folder; column: encoded bytes (also as structs with the field bytes, as Hugging Face
    stores them), or uint8 RGB arrays [H,W,3], as `ray.data.read_images` gives. decode: exact | fast, as in
    `decode_image`. on_error: "raise" a ValueError for an image that cannot be read, or "mark" it: a column `reason`
    says why, null for good images, and its tokens are null in a table, 0 in arrays. device: cuda where there is one.

    Takes dicts of numpy arrays and pyarrow tables, the batch formats numpy and pyarrow of Ray Data.
    """

    def __init__(
        self,
        tokenizer: str | Folder,
        *,
        column: str = "image",
        decode: str = "exact",
        on_error: str = "raise",
        batch_size: int = 256,
        device: str | None = None,
    ):
        if on_error not in ON_ERROR:
            raise ValueError(f"on_error {on_error!r}; expected one of {ON_ERROR}; correct it")
        self.tokenizer, _ = load_tokenizer(tokenizer if isinstance(tokenizer, Folder) else Folder(tokenizer))
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.tokenizer.to(self.device)
        self.column, self.mode, self.on_error, self.batch_size = column, decode, on_error, batch_size

    def __call__(self, batch: Any) -> Any:
        """The batch with its tokens, in the format that it came in; ValueError for a column that is not there."""
        if isinstance(batch, pa.Table):
            self.check_column(batch.column_names)
            tokens, reasons = self.tokens_of(batch[self.column].to_pylist())
            return self.with_columns(batch, tokens, reasons)
        if not isinstance(batch, dict):
            raise ValueError(
                f"a batch of {type(batch).__name__}; expected a dict of arrays or a pyarrow table; set batch_format to "
                "numpy or pyarrow"
            )
        self.check_column(list(batch))
        tokens, reasons = self.tokens_of(list(batch[self.column]))
        marks = {"reason": np.array(reasons, object)} if self.on_error == "mark" else {}
        return {**batch, "tokens": tokens, **marks}

    def check_column(self, names: Sequence[str]) -> None:
        """ValueError unless the column is there."""
        if self.column not in names:
            raise missing_column(self.column, "a batch", names, "column")

    def with_columns(self, table: pa.Table, tokens: np.ndarray, reasons: list[str | None]) -> pa.Table:
        """The table with lists of tokens, null where there is a reason."""
        lists = [None if reason else row for row, reason in zip(tokens, reasons, strict=True)]
        table = table.append_column("tokens", pa.array(lists, pa.list_(pa.uint16())))
        return table.append_column("reason", pa.array(reasons, pa.string())) if self.on_error == "mark" else table

    def tokens_of(self, images: list[Any]) -> tuple[np.ndarray, list[str | None]]:
        """(tokens uint16 [N,L], why each image has none) of bytes or arrays."""
        rows, columns = self.tokenizer.grid
        tokens, reasons = np.zeros((len(images), rows * columns), np.uint16), list[str | None]([None] * len(images))
        pixels: list[np.ndarray] = []
        for place, image in enumerate(images):
            try:
                pixels.append(self.pixels_of(image))
            except ImageError as error:
                if self.on_error == "raise":
                    raise ValueError(f"image {place} of a batch: {error}") from error
                reasons[place] = str(error)
        if pixels:
            parts = parts_on(self.device, torch.from_numpy(np.stack(pixels)), self.batch_size)
            found = torch.cat([self.tokenizer.encode(part).to(torch.int32) for part in parts])
            tokens[[reason is None for reason in reasons]] = found.cpu().numpy().astype(np.uint16)
        return tokens, reasons

    def pixels_of(self, image: Any) -> np.ndarray:
        """uint8 [3,H,W] at the size of the tokenizer; ImageError for what is no image."""
        if isinstance(image, dict):
            image = image.get("bytes")
        size, resize = self.tokenizer.image_size, self.tokenizer.resize
        if isinstance(image, bytes):
            return decode_image(image, image_size=size, resize=resize, mode=self.mode).pixels
        if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
            return resize_exact(np.ascontiguousarray(image), size, resize)
        found = f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ImageError(f"{found}; expected the bytes of an image, or uint8 RGB [H,W,3]")
