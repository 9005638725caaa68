"""Contrast, saturation, elastic shifts, large pixels, JPEG. Images float32 [3,H,W], 0 to 1."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from seit_ray.evaluation.corruptions.sampling import blurred, sampled

Rng = np.random.Generator


def contrast(image: np.ndarray, factor: float, rng: Rng) -> np.ndarray:
    """Around the mean of each channel."""
    mean = image.mean(axis=(1, 2), keepdims=True)
    return (image - mean) * np.float32(factor) + mean


def saturate(image: np.ndarray, strength: tuple[float, float], rng: Rng) -> np.ndarray:
    """The saturation of HSV is multiplied and added to, hue and value stay; what has no hue is red, as published."""
    factor, added = strength
    value, least = image.max(axis=0), image.min(axis=0)
    span = value - least
    saturation = span / np.where(value > 0, value, 1)
    changed = (saturation * np.float32(factor) + np.float32(added)).clip(0, 1)
    red = np.array([0, 1, 1], np.float32)[:, None, None]
    lack = np.where(span > 0, (value - image) / np.where(span > 0, span, 1), red)
    return value - value * changed * lack


def elastic_transform(image: np.ndarray, strength: tuple[float, float, float], rng: Rng) -> np.ndarray:
    """An affine map that moves three points, then a smooth displacement of each pixel."""
    length, sigma, reach = strength
    shape = height, width = image.shape[-2:]
    third = min(shape) // 3
    middle = np.array([height // 2, width // 2], float)
    corners = middle + third * np.array([[1, 1], [1, -1], [-1, -1]])
    moved = corners + rng.uniform(-reach, reach, corners.shape)
    # [row, column, 1] of a pixel of the result -> where it was
    back = np.linalg.lstsq(np.c_[moved, np.ones(3)], corners, rcond=None)[0]
    rows, columns = np.mgrid[:height, :width].astype(float)
    was = np.stack([rows, columns, np.ones(shape)], axis=-1) @ back
    image = sampled(image, was[..., 0], was[..., 1], "mirror")
    if not length:
        return image
    drawn = (2 * rng.random((2, *shape), np.float32) - 1) * np.float32(length)
    down, across = blurred(drawn, sigma, "reflect", truncate=3.0)
    return sampled(image, rows + down, columns + across, "reflect")


def pixelate(image: np.ndarray, factor: float, rng: Rng) -> np.ndarray:
    """Smaller and larger again, by means of boxes."""
    height, width = image.shape[-2:]
    picture = as_picture(image)
    small = picture.resize((max(1, int(width * factor)), max(1, int(height * factor))), Image.Resampling.BOX)
    return as_map(small.resize((width, height), Image.Resampling.BOX))


def jpeg_compression(image: np.ndarray, quality: int, rng: Rng) -> np.ndarray:
    """Through a JPEG file of that quality, with Pillow's other settings."""
    sink = io.BytesIO()
    as_picture(image).save(sink, "JPEG", quality=quality)
    return as_map(Image.open(sink))


def as_picture(image: np.ndarray) -> Image.Image:
    """Pillow's image of a map."""
    return Image.fromarray(np.ascontiguousarray(np.round(image * 255).astype(np.uint8).transpose(1, 2, 0)))


def as_map(picture: Image.Image) -> np.ndarray:
    """The inverse of `as_picture`."""
    return np.asarray(picture, np.float32).transpose(2, 0, 1) / 255
