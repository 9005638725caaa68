"""A tokenizer of which only the codebook is at hand: for imported tokens, whose encoder stayed with its owner."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, NoReturn, Self

import torch
from torch import Tensor

from seit_ray.storage.torch_file import read_torch
from seit_ray.tokenizers.codebook import METRICS

MAX_CODES = 1 << 16  # tokens are stored as uint16


class CodebookTokenizer:
    """What models of tokens need of a tokenizer, and nothing to make tokens with: codes are the rows [K,D].

    `metric` says how the tokens' own encoder chose codes: "cosine" (ViT-VQGAN) or "l2"; `compacted_from` is the K
    that a compacted codebook once had. ValueError for a codebook that is no finite matrix of 1 to 65536 rows, for a
    grid or image size below 1, and for other metrics.
    """

    family = "codebook"

    def __init__(
        self,
        codebook: Tensor,
        *,
        grid: Sequence[int],
        image_size: int,
        metric: str = "cosine",
        resize: str = "squash",
        compacted_from: int | None = None,
    ):
        check_codebook(codebook)
        if len(grid) != 2 or min(*grid, image_size) < 1:
            raise ValueError(
                f"grid {list(grid)} and image_size {image_size}; expected two sides of 1 or more and a size of 1 or "
                "more; take those that the tokens were made with"
            )
        if metric not in METRICS:
            raise ValueError(f"metric {metric!r}; expected one of {', '.join(METRICS)}; take the encoder's own")
        self.codebook = codebook.float()
        self.grid, self.image_size = (grid[0], grid[1]), image_size
        self.metric, self.resize, self.compacted_from = metric, resize, compacted_from

    def encode(self, images: Tensor) -> Tensor:
        """ValueError, always: the encoder was not imported."""
        self._refuse(f"images of shape {list(images.shape)}", "encode")

    def decode(self, tokens: Tensor) -> Tensor:
        """ValueError, always: the decoder was not imported."""
        self._refuse(f"tokens of shape {list(tokens.shape)}", "decode")

    def _refuse(self, what: str, verb: str) -> NoReturn:
        raise ValueError(
            f"{what} to {verb} with a tokenizer of family {self.family!r}; expected one that can, since the codebook "
            f"was imported without its {verb}r; import the tokens again with tokenizer=FOLDER of the whole tokenizer"
        )

    def to(self, device: str | torch.device) -> Self:
        """Move to a device, in place."""
        self.codebook = self.codebook.to(device)
        return self

    def select_codes(self, kept: Tensor) -> Self:
        """The tokenizer with only the codes `kept` [K'], in that order, on the same device."""
        config = {**self.config(), "compacted_from": self.compacted_from or len(self.codebook)}
        return type(self)(self.codebook[kept.to(self.codebook.device)], **config)

    def config(self) -> dict[str, Any]:
        """Plain values that, with `tensors`, rebuild it."""
        return {
            "grid": list(self.grid),
            "image_size": self.image_size,
            "metric": self.metric,
            "resize": self.resize,
            "compacted_from": self.compacted_from,
        }

    def tensors(self) -> dict[str, Tensor]:
        """Named tensors that, with `config`, rebuild it."""
        return {"codebook": self.codebook}

    @classmethod
    def build(cls, config: dict[str, Any], tensors: dict[str, Tensor]) -> Self:
        """The inverse of `config` and `tensors`."""
        return cls(tensors["codebook"], **config)


def check_codebook(codebook: Any) -> None:
    """ValueError unless it is a finite float matrix [K,D] of 1 to 65536 rows."""
    if not isinstance(codebook, Tensor) or codebook.ndim != 2 or not codebook.is_floating_point():
        is_tensor = isinstance(codebook, Tensor)
        found = f"{codebook.dtype} {list(codebook.shape)}" if is_tensor else f"a {type(codebook).__name__}"
        raise ValueError(f"codebook {found}; expected one tensor of floats [K,D]; save just the codebook's weight")
    rows, width = codebook.shape
    if not 1 <= rows <= MAX_CODES or not width:
        raise ValueError(f"codebook of {rows} codes x {width}; expected 1 to {MAX_CODES} codes; take another file")
    if not codebook.isfinite().all():
        raise ValueError(f"codebook [{rows},{width}] with inf or NaN; expected finite numbers; export it again")


def read_codebook(data: bytes) -> Tensor:
    """The codebook float32 [K,D] of the bytes of a codebook.ckpt, a bare tensor; ValueError for anything else."""
    codebook = read_torch(data)
    check_codebook(codebook)
    return codebook.float().contiguous()


def encode_codebook(codebook: Tensor) -> bytes:
    """Bytes of a codebook.ckpt of a codebook [K,D]."""
    file = io.BytesIO()
    torch.save(codebook.detach().cpu().clone(), file)
    return file.getvalue()
