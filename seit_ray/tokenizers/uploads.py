"""Images on their way to the device that encodes them: each part is copied while the one before is worked on."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


def parts_on(device: torch.device, images: Tensor, batch_size: int) -> Iterator[Tensor]:
    """Images uint8 [N,3,H,W] of the host in parts of batch_size, on a device.

    On a GPU the next part travels from pinned memory, on a stream of its own, as soon as the caller has started its
    work on this one and asks for the next: a caller that waits for results in between loses that.
    """
    parts = images.split(batch_size) if len(images) else ()
    if device.type != "cuda" or not parts:
        yield from parts
        return
    copies = torch.cuda.Stream(device)

    def upload(part: Tensor) -> Tensor:
        with torch.cuda.stream(copies):
            return part.pin_memory().to(device, non_blocking=True)

    coming = upload(parts[0])
    for following in range(1, len(parts) + 1):
        here, working = coming, torch.cuda.current_stream(device)
        working.wait_stream(copies)
        here.record_stream(working)  # its memory is not given away before the work on it is over
        yield here
        if following < len(parts):
            coming = upload(parts[following])
