"""Snow, frost, fog, spatter, brightness. Images float32 [3,H,W], 0 to 1.

Two differ from the release of ImageNet-C. Its frost lays photographs over the image, which may not be passed on: here
they are drawn (`frost_picture`). Its spatter finds the edge of water with Canny's filter; here it is the edge itself.
"""

from __future__ import annotations

import functools

import numpy as np

from seit_ray.evaluation.corruptions.blur import moved
from seit_ray.evaluation.corruptions.sampling import blurred, filtered, plasma, zoomed

Rng = np.random.Generator
GREY = np.array([0.299, 0.587, 0.114], np.float32)[:, None, None]
NUM_FROSTS, FROST_SIDE = 6, 512
FROST_TINT = np.array([0.93, 0.97, 1.0], np.float32)[:, None, None]
COARSE_SIDE, COARSE = 64, 5  # frost of smaller images is so many times finer
WATER = np.array([175, 238, 238], np.float32)[:, None, None] / 255
MUD = np.array([63, 42, 20], np.float32)[:, None, None] / 255
FARTHEST = 20  # from the edge of water, in pixels, that shows
EMBOSS = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
BOX = np.full((3, 3), 1 / 9)


def brightness(image: np.ndarray, added: float, rng: Rng) -> np.ndarray:
    """The value of HSV is raised: the largest channel by that much, up to 1, the others in proportion."""
    value = image.max(axis=0)
    raised = (value + np.float32(added)).clip(0, 1)
    return np.where(value > 0, image * (raised / np.where(value > 0, value, 1)), raised)


def fog(image: np.ndarray, strength: tuple[float, float], rng: Rng) -> np.ndarray:
    """A plasma fractal is added, and all of it brought back to the image's brightest value."""
    weight, decay = strength
    height, width = image.shape[-2:]
    most = image.max()
    layer = plasma(max(height, width), decay, rng)[:height, :width]
    return (image + np.float32(weight) * layer) * (most / (most + np.float32(weight)))


def snow(image: np.ndarray, strength: tuple[float, ...], rng: Rng) -> np.ndarray:
    """Flakes: bright spots of enlarged noise, moved downwards, from two sides, over a paler image."""
    mean, deviation, zoom, threshold, radius, sigma, kept = strength
    layer = np.float32(mean) + np.float32(deviation) * rng.standard_normal((1, *image.shape[-2:]), np.float32)
    layer = zoomed(layer, zoom)
    layer = np.where(layer < threshold, np.float32(0), layer).clip(0, 1)
    layer = moved(layer, radius, sigma, angle=rng.uniform(-135, -45))
    pale = np.maximum(image, (GREY * image).sum(axis=0) * 1.5 + 0.5)
    return np.float32(kept) * image + np.float32(1 - kept) * pale + layer + layer[:, ::-1, ::-1]


def frost(image: np.ndarray, weights: tuple[float, float], rng: Rng) -> np.ndarray:
    """A weighted sum with a random cut-out of one of NUM_FROSTS drawn pictures."""
    height, width = image.shape[-2:]
    coarse = COARSE if max(height, width) < COARSE_SIDE else 1
    picture = frost_picture(int(rng.integers(NUM_FROSTS)))
    top, left = rng.integers(FROST_SIDE, size=2)
    rows, columns = ((start + np.arange(side * coarse)) % FROST_SIDE for start, side in ((top, height), (left, width)))
    cut = picture[rows[:, None], columns].reshape(height, coarse, width, coarse).mean(axis=(1, 3))
    return np.float32(weights[0]) * image + np.float32(weights[1]) * cut * FROST_TINT


@functools.lru_cache(maxsize=NUM_FROSTS)
def frost_picture(number: int) -> np.ndarray:
    """Drawn frost float32 [512,512], 0 to 1: bright ridges where fractals cross their middle; its edges meet."""
    rng = np.random.Generator(np.random.Philox(key=number))
    total = np.zeros((FROST_SIDE, FROST_SIDE), np.float32)
    for weight, decay in ((1.0, 1.9), (0.6, 1.6), (0.5, 1.35)):
        total += np.float32(weight) * (1 - np.abs(2 * plasma(FROST_SIDE, decay, rng) - 1)) ** 3
    return (total - total.min()) / (total.max() - total.min())


def spatter(image: np.ndarray, strength: tuple[float, ...], rng: Rng) -> np.ndarray:
    """Drops of water, or of mud, on the lens."""
    mean, deviation, sigma, threshold, amount, is_mud = strength
    layer = np.float32(mean) + np.float32(deviation) * rng.standard_normal((1, *image.shape[-2:]), np.float32)
    layer = blurred(layer, sigma)
    layer = np.where(layer < threshold, np.float32(0), layer)
    if is_mud:
        cover = blurred((layer > threshold).astype(np.float32), amount)
        cover = np.where(cover < 0.8, np.float32(0), cover)
        return image * (1 - cover) + MUD * cover
    shine = layer.clip(0, 1) * relief(layer[0] > 0)
    most = shine.max()
    return image + shine * (np.float32(amount) / most if most > 0 else 0) * WATER


def relief(is_wet: np.ndarray) -> np.ndarray:
    """Light float32 [1,H,W] on drops bool [H,W], from the distance to their edges: spread evenly, then embossed."""
    near = np.minimum(edge_distance(is_wet), FARTHEST)[None]
    levels = np.floor(filtered(near, BOX) + 1e-4).astype(np.int64)
    counts = np.bincount(levels.ravel(), minlength=FARTHEST + 1)
    total, first = counts.cumsum(), counts[counts > 0][0]
    spread = np.round(255 * (total - first) / max(1, levels.size - first)).clip(0, 255).astype(np.float32)
    return filtered(filtered(spread[levels], EMBOSS).clip(0, 255), BOX)


def edge_distance(is_wet: np.ndarray) -> np.ndarray:
    """Distance float32 [H,W], in pixels, to the nearest wet pixel beside a dry one; exact up to FARTHEST, then more."""
    around = np.pad(is_wet, 1, mode="edge")
    inside = around[:-2, 1:-1] & around[2:, 1:-1] & around[1:-1, :-2] & around[1:-1, 2:]
    is_edge = is_wet & ~inside
    far, places = np.float32(4 * FARTHEST), np.arange(is_wet.shape[1], dtype=np.float32)
    before = np.maximum.accumulate(np.where(is_edge, places, -far), axis=1)
    after = np.minimum.accumulate(np.where(is_edge, places, places[-1] + far)[:, ::-1], axis=1)[:, ::-1]
    along = np.minimum(np.minimum(places - before, after - places), far) ** 2
    wide = np.pad(along, ((FARTHEST, FARTHEST), (0, 0)), constant_values=far**2)
    height = len(along)
    squares = [
        wide[FARTHEST + dy : FARTHEST + dy + height] + np.float32(dy**2) for dy in range(-FARTHEST, FARTHEST + 1)
    ]
    return np.sqrt(functools.reduce(np.minimum, squares))
