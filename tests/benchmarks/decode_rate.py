"""Images/s of decoding and resizing a folder of pictures: plain Pillow, exact and fast; what fast changes. One thread.

python tests/benchmarks/decode_rate.py IMAGES [--max-images N] [--image-size S] [--resize squash] [--patch-size P] ...

The changes are those of centroid tokens that were fitted on the exact pixels of the same pictures.
"""

import argparse
import io
import time

import numpy as np
import torch
from PIL import Image

from seit_ray.images.decode import MODES, ImageError, decode_image
from seit_ray.images.resize import RESIZERS
from seit_ray.storage import Folder
from seit_ray.tokenizers.centroid_fit import fit_centroids


def by_pillow(data: bytes, size: int, resize: str) -> np.ndarray:
    """Pixels [3,size,size], as everybody writes it."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    return np.ascontiguousarray(np.asarray(RESIZERS[resize](image, size)).transpose(2, 0, 1))


def rates(ways: dict, contents: list[bytes], rounds: int) -> dict[str, float]:
    """Images/s of processor time of each way, the best of rounds that alternate."""
    seconds = dict.fromkeys(ways, float("inf"))
    for _ in range(rounds):
        for name, way in ways.items():
            began = time.process_time()
            for data in contents:
                way(data)
            seconds[name] = min(seconds[name], time.process_time() - began)
    return {name: len(contents) / seconds[name] for name in ways}


def main() -> None:
    """Print the rates, and PSNR and changed tokens of the fast mode."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images")
    parser.add_argument("--resize", choices=sorted(RESIZERS), default="squash")
    numbers = {"max-images": 1000, "image-size": 256, "patch-size": 8, "codes": 1024, "rounds": 3}
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    torch.set_num_threads(1)
    folder, shape = Folder(options.images), {"image_size": options.image_size, "resize": options.resize}
    names = [entry.name for entry in folder.list()][: options.max_images]
    contents = []
    for data in folder.read_many(names):
        try:
            decode_image(data, **shape)
        except ImageError:
            continue
        contents.append(data)
    ways = {"pillow": lambda data: by_pillow(data, options.image_size, options.resize)}
    ways |= {mode: lambda data, mode=mode: decode_image(data, mode=mode, **shape) for mode in MODES}
    found = rates(ways, contents, options.rounds)
    print(f"{len(contents)} images to {options.image_size}x{options.image_size}, {options.resize}:")
    for name, rate in found.items():
        print(f"  {name:8}{rate:9.0f} images/s, {rate / found['pillow']:.2f} of pillow")
    exact, fast = (np.stack([decode_image(data, mode=mode, **shape).pixels for data in contents]) for mode in MODES)
    squares = ((exact.astype(np.float32) - fast) ** 2).mean((1, 2, 3))
    each = 10 * np.log10(255**2 / np.maximum(squares, 1e-9))
    whole = 10 * np.log10(255**2 / max(float(squares.mean()), 1e-9))
    worst, median = each.min(), np.median(each)
    print(f"fast against exact: PSNR {whole:.1f} dB of all pixels, median image {median:.1f} dB, worst {worst:.1f} dB")
    tokenizer, _ = fit_centroids(
        torch.from_numpy(exact), patch_size=options.patch_size, codebook_size=options.codes, iterations=5
    )
    tokens = [tokenizer.encode(torch.from_numpy(pixels)) for pixels in (exact, fast)]
    print(f"changed tokens: {(tokens[0] != tokens[1]).float().mean():.2%} of {tokens[0].numel()}")


if __name__ == "__main__":
    main()
