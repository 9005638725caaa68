"""One corruption of one image. It depends on the image, its key, the corruption and the severity alone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np

from seit_ray.evaluation.corruptions import blur, digital, noise, weather
from seit_ray.evaluation.corruptions.strengths import strength_of

Corruption = Callable[[np.ndarray, Any, np.random.Generator], np.ndarray]

CORRUPTIONS: dict[str, Corruption] = {
    function.__name__: function
    for function in (
        *(noise.gaussian_noise, noise.shot_noise, noise.impulse_noise, noise.speckle_noise),
        *(blur.defocus_blur, blur.glass_blur, blur.motion_blur, blur.zoom_blur, blur.gaussian_blur),
        *(weather.snow, weather.frost, weather.fog, weather.brightness, weather.spatter),
        *(digital.contrast, digital.elastic_transform, digital.pixelate, digital.jpeg_compression, digital.saturate),
    )
}


def corrupted(pixels: np.ndarray, name: str, severity: int, *, key: str, strengths: str) -> np.ndarray:
    """An image uint8 [3,H,W] under a corruption of `strengths.NAMES`; key: what the image is called."""
    strength = strength_of(name, severity, strengths, min(pixels.shape[-2:]))
    image = pixels.astype(np.float32) / 255
    found = CORRUPTIONS[name](image, strength, generator(key, name, severity))
    return (found.clip(0, 1) * 255 + np.float32(0.5)).astype(np.uint8)


def generator(key: str, name: str, severity: int) -> np.random.Generator:
    """Random numbers of a case of an image."""
    digest = hashlib.blake2b(f"{name}/{severity}/{key}".encode(errors="surrogatepass"), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "big")))
