"""Published weights of SeiT, SeiT++, TokenAdapt, CCViT and DTM: what model they are of, its sizes read off shapes.

What shapes do not tell (heads, stride and padding of the stem) is that of the named size and of the published stems,
or has to be given. Legend: P patches, K codes, D width of a code, h x w token grid.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from seit_ray.models.build import build_model
from seit_ray.models.published_beit import beit_classifier_settings, centroid_settings, student_settings
from seit_ray.models.variants import SIZES, Size
from seit_ray.models.weights import load_named

__all__ = ["Published", "load_published", "published_settings", "published_state"]

STEMS = {1: (1, 0), 2: (2, 0), 4: (2, 1)}  # kernel -> stride, padding
WRAPPERS = ("model", "state_dict")  # what a checkpoint calls its state dict
TOKENADAPT = ("conversion_function.", "reverse_transform.")  # carried along by SeiT++'s models, which do not train it
HEAD_DIM = 64  # of TokenAdapt's release


class Published:
    """A state dict whose shapes are looked up by name: what is missing, or no such tensor, is a ValueError."""

    def __init__(self, state: Mapping[str, Tensor]):
        self.state = state

    def shape(self, name: str, ndim: int) -> tuple[int, ...]:
        """Shape of an entry of so many dimensions, none of them 0."""
        found = tuple(self.state[name].shape) if name in self.state else ()
        if len(found) != ndim or not all(found):
            what = f"with {name} of shape {list(found)}" if name in self.state else f"without {name}"
            raise ValueError(f"weights {what}; expected {ndim} dimensions; take the weights of a published model")
        return found

    def depth(self, prefix: str) -> int:
        """How many numbered blocks have names of this prefix."""
        return len({name[len(prefix) :].partition(".")[0] for name in self.state if name.startswith(prefix)})


@dataclass(frozen=True)
class Given:
    """What weights are read with: the dataset's grid and codebook [K,D], and numbers that shapes leave open."""

    grid: tuple[int, int]
    codebook: Tensor
    num_heads: int | None = None
    decoder_num_heads: int | None = None
    stem_stride: int | None = None
    stem_padding: int | None = None
    pool: str | None = None
    early_layers: int | None = None

    def refuse(self, *names: str) -> None:
        """ValueError for a setting that this kind of model does not have."""
        found = [f"{name} {getattr(self, name)}" for name in names if getattr(self, name) is not None]
        if found:
            raise ValueError(f"{', '.join(found)} for a model that has none; expected nothing; leave it out")


def published_state(content: Any) -> dict[str, Tensor]:
    """The state dict in what `storage.torch_file.read_torch` gave: itself, or its "model" or "state_dict".

    Prefixes of DistributedDataParallel are taken off. ValueError when it is no mapping from names to tensors.
    """
    for key in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    named = isinstance(content, Mapping) and all(isinstance(name, str) for name in content)
    if not named or not content or not all(isinstance(value, Tensor) for value in content.values()):
        keys = ", ".join(str(key)[:40] for key in list(content)[:5]) if isinstance(content, Mapping) else ""
        raise ValueError(
            f"weights in a {type(content).__name__} ({keys or 'no names'}); expected names and tensors, or these under "
            f"{' or '.join(WRAPPERS)}; save the model's state dict"
        )
    prefix = "module." if all(name.startswith("module.") for name in content) else ""
    # what tables of position biases are looked up by follows from the grid
    kept = {name: value for name, value in content.items() if not name.endswith("relative_position_index")}
    return {name[len(prefix) :]: value for name, value in kept.items()}


def published_settings(state: Mapping[str, Tensor], **given: Any) -> tuple[str, dict[str, Any]]:
    """Kind and settings, as `build_model` takes them, of a published state dict; `given` is that of `Given`.

    ValueError when it is no model known here, when its shapes leave a number open that is not given, and when it does
    not fit the tokens.
    """
    for kind, (mark, settings_of) in KNOWN.items():
        if mark in state:
            return kind, settings_of(Published(state), Given(**given))
    marks = ", ".join(f"{mark} ({kind})" for kind, (mark, _) in KNOWN.items())
    raise ValueError(f"weights with {', '.join(list(state)[:5])}; expected one of {marks}; take a model's state dict")


def load_published(kind: str, settings: dict[str, Any], state: Mapping[str, Tensor]) -> nn.Module:
    """The model with its weights, in eval mode; ValueError lists all entries missing, left over or misshapen."""
    model = build_model(kind, **settings)
    load_named(model, state, ignore=() if kind == "tokenadapt" else TOKENADAPT)
    return model.eval()


def classifier_settings(weights: Published, given: Given) -> dict[str, Any]:
    """Of a ViT with a head: on a learned table where it has one (SeiT++), on codebook rows else (SeiT); or a BEiT."""
    if "blocks.0.gamma_1" in weights.state:
        return beit_classifier_settings(weights, given)
    given.refuse("decoder_num_heads", "early_layers")
    codebook = given.codebook
    width, dim, kernel, _ = weights.shape("patch_embed.proj.weight", 4)
    stride, padding = stem_of(kernel, given.stem_stride, given.stem_padding)
    settings = {
        "size": size_of(width, weights.depth("blocks."), given.num_heads),
        "grid": grid_of(weights.shape("pos_embed", 3)[1] - 1, (kernel, stride, padding), given.grid),
        "num_codes": len(codebook),
        "num_classes": weights.shape("head.weight", 2)[0],
        "stem_kernel": kernel,
        "stem_stride": stride,
        "stem_padding": padding,
        "pool": given.pool or "mean",
    }
    if "token_emb.word_embeddings.weight" in weights.state:
        return {**settings, "inputs": "learned", "token_dim": table_width(weights, codebook)}
    if dim != codebook.shape[1]:
        raise ValueError(
            f"weights of a stem on {dim} channels; expected {codebook.shape[1]}, the width of the dataset's codes; "
            "take the dataset that they were trained on"
        )
    return {**settings, "inputs": "codebook", "codebook": codebook}


def masked_settings(weights: Published, given: Given) -> dict[str, Any]:
    """Of a masked token model (SeiT++ pre-training), whose units lie side by side."""
    given.refuse("stem_stride", "stem_padding", "pool", "early_layers")
    width, _, kernel, _ = weights.shape("patch_embed.proj.weight", 4)
    decoder = weights.shape("decoder_embed.weight", 2)[0], weights.depth("decoder_blocks.")
    return {
        "size": size_of(width, weights.depth("blocks."), given.num_heads, decoder, given.decoder_num_heads),
        "grid": grid_of(weights.shape("pos_embed", 3)[1] - 1, (kernel, kernel, 0), given.grid),
        "num_codes": len(given.codebook),
        "token_dim": table_width(weights, given.codebook),
        "stem_kernel": kernel,
    }


def tokenadapt_settings(weights: Published, given: Given) -> dict[str, Any]:
    """Of TokenAdapt's conversion f and reverse g; heads are 64 wide unless their number is given."""
    given.refuse("decoder_num_heads", "stem_stride", "stem_padding", "pool", "early_layers")
    codebook = given.codebook
    layers = "conversion_function.1.transformer.layers."
    width, dim = weights.shape("conversion_function.0.weight", 2)
    inner = weights.shape(f"{layers}0.0.fn.to_qkv.weight", 2)[0] // 3
    heads = given.num_heads or max(1, inner // HEAD_DIM)
    num_codes = weights.shape("reverse_transform.1.weight", 2)[0]
    if (num_codes, dim) != tuple(codebook.shape) or inner % heads:
        raise ValueError(
            f"weights for {num_codes} codes x {dim} with {heads} heads in {inner}; expected "
            f"{len(codebook)} x {codebook.shape[1]}, as the dataset's codebook is, and heads that divide; take its own "
            "TokenAdapt, or set num_heads"
        )
    no_stem = (1, 1, 0)
    grid = grid_of(weights.shape("conversion_function.1.de_pos_embedding", 3)[1], no_stem, given.grid)
    if grid != tuple(given.grid):
        raise ValueError(f"weights for the grid {grid}; expected {given.grid}, the dataset's; take its own TokenAdapt")
    return {
        "grid": grid,
        "out_grid": grid_of(weights.shape("reverse_transform.0.en_pos_embedding", 3)[1], no_stem, given.grid),
        "num_codes": num_codes,
        "dim": dim,
        "width": width,
        "depth": weights.depth(layers),
        "num_heads": heads,
        "head_dim": inner // heads,
        "mlp_width": weights.shape(f"{layers}0.1.fn.net.0.weight", 2)[0],
    }


# Kind -> an entry that none of the kinds after it has, and what reads its settings.
KNOWN: dict[str, tuple[str, Callable[..., dict[str, Any]]]] = {
    "mtm": ("mask_token_label", masked_settings),
    "classifier": ("head.weight", classifier_settings),
    "tokenadapt": ("conversion_function.0.weight", tokenadapt_settings),
    "ccvit": ("cls_pt_layers.0.norm1.weight", centroid_settings),
    "dtm": ("mask_token", student_settings),
}


def table_width(weights: Published, codebook: Tensor) -> int:
    """Width of the learned table of codes; ValueError unless it has a row for each of the dataset's."""
    num_codes, width = weights.shape("token_emb.word_embeddings.weight", 2)
    if num_codes != len(codebook):
        raise ValueError(
            f"weights for {num_codes} codes; expected {len(codebook)}, as the dataset's codebook has; take the dataset "
            "that they were trained on"
        )
    return width


def stem_of(kernel: int, stride: int | None, padding: int | None) -> tuple[int, int]:
    """Stride and padding of a stem: those given, else the published ones of its kernel."""
    if kernel not in STEMS and (stride is None or padding is None):
        raise ValueError(
            f"weights with a stem of kernel {kernel}; expected one of {sorted(STEMS)}, or stride and padding, which "
            "weights do not tell; set stem_stride and stem_padding"
        )
    known = STEMS.get(kernel, (0, 0))  # where it is unknown, both are given
    return (known[0] if stride is None else stride), (known[1] if padding is None else padding)


def grid_of(num_patches: int, stem: tuple[int, int, int], grid: tuple[int, int]) -> tuple[int, int]:
    """Token grid that a stem (kernel, stride, padding) turns into P patches: the dataset's, else a square inside it."""
    kernel, stride, padding = stem
    steps = [(side + 2 * padding - kernel) // stride + 1 for side in grid]
    if steps[0] * steps[1] == num_patches and min(steps) > 0:
        rows, columns = steps
    else:
        rows = columns = round(max(num_patches, 0) ** 0.5)
    height, width = ((number - 1) * stride + kernel - 2 * padding for number in (rows, columns))
    if rows * columns != num_patches or min(height, width) < 1 or height > grid[0] or width > grid[1]:
        raise ValueError(
            f"weights of {num_patches} positions under a stem of kernel {kernel}, stride {stride}, padding {padding}; "
            f"expected those of the dataset's grid {grid[0]}x{grid[1]}, or of a square inside it; take the dataset "
            "that they were trained on"
        )
    return height, width


def size_of(
    width: int,
    depth: int,
    num_heads: int | None,
    decoder: tuple[int, int] | None = None,
    decoder_num_heads: int | None = None,
) -> Size:
    """Size of the given widths and depths (decoder: width, depth); heads are those of the named size, or given."""
    named = next((size for size in SIZES.values() if (size.width, size.depth) == (width, depth)), None)
    heads = num_heads or (named and named.num_heads)
    if not heads:
        raise heads_unknown("num_heads", width, depth)
    if decoder is None:  # a classifier has none, yet a size names one
        return replace(named, num_heads=heads) if named else Size(width, depth, heads, width, depth, heads)
    known = named if named and (named.decoder_width, named.decoder_depth) == decoder else None
    decoder_heads = decoder_num_heads or (known and known.decoder_num_heads)
    if not decoder_heads:
        raise heads_unknown("decoder_num_heads", *decoder)
    return Size(width, depth, heads, *decoder, decoder_heads)


def heads_unknown(name: str, width: int, depth: int) -> ValueError:
    """The error for a size without a name, of which weights do not tell the heads."""
    return ValueError(
        f"weights {width} wide and {depth} deep, of no named size; expected the number of heads, which weights do not "
        f"tell; set {name}"
    )
