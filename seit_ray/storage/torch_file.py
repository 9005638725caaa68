"""The tensors of a file that torch.save or safetensors wrote, read without running what may be pickled in it."""

from __future__ import annotations

import io
import pickle
import re
import warnings
from typing import Any


def read_torch(data: bytes) -> Any:
    """What a torch or safetensors file of these bytes holds, on the CPU: tensors, and plain containers of them.

    ValueError for other files, and for pickled modules, which would run code: their state dict is what to save.
    """
    import torch
    from safetensors import torch as safetensors

    try:
        if data[8:9] == b"{":  # after the 8 bytes that say how long the header is
            return safetensors.load(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what the file is; that it is refused says enough
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged pickle makes of its reader
        raise ValueError(
            f"torch file of {len(data)} bytes that cannot be read ({reason_of(error)}); expected tensors "
            "by torch.save or safetensors, no pickled module; save the state dict of what it holds"
        ) from error


def reason_of(error: Exception) -> str:
    """What went wrong in a few words: torch's own come with advice and colours."""
    if isinstance(error, pickle.UnpicklingError | IndexError):  # the latter of text that looks like a pickle
        return "it holds pickled objects" if "weights_only" in str(error) else "it is no torch file, or a damaged one"
    first = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip().partition("\n")[0][:200]
    return f"{type(error).__name__}: {first}"
