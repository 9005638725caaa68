"""How CCViT sees the data: images or stored tokens, by which centroids, on which grid."""

from __future__ import annotations

from dataclasses import dataclass, replace

from seit_ray.batches.contract import Samples
from seit_ray.batches.decoded import DecodedSamples
from seit_ray.images.sources.settings import SourceSettings
from seit_ray.progress import Progress
from seit_ray.runs.inputs import Inputs, TokenInputs, image_inputs
from seit_ray.runs.method_settings import CcvitSettings, PretrainPixelSettings
from seit_ray.storage import Folder
from seit_ray.tokenizers.centroid import CentroidTokenizer
from seit_ray.tokenizers.contract import Tokenizer
from seit_ray.tokenizers.files import load_tokenizer
from seit_ray.training.settings import LoopSettings
from seit_ray.training.world import World


@dataclass(frozen=True)
class Sight:
    """How the model sees the data: by which centroids, on which grid, as what, and whether of stored tokens."""

    coder: CentroidTokenizer
    grid: tuple[int, int]
    sees: str
    on_tokens: bool

    def shown(self, store: Samples) -> Samples:
        """Stored tokens as the pictures that they decode to, where the model sees pixels."""
        return DecodedSamples(store, self.coder, self.grid) if self.sees == "pixels" and self.on_tokens else store


def sight_of(inputs: Inputs, ccvit: CcvitSettings, pixels: PretrainPixelSettings, world: World) -> Sight:
    """How the data is seen, its centroids on this rank's device; ValueError for codes that are no pixels."""
    on_tokens = isinstance(inputs, TokenInputs)
    coder = centroids_of(inputs.tokenizer, inputs.where).to(world.device)
    sees = "codebook" if on_tokens and ccvit.sees != "pixels" else "pixels"
    return Sight(coder, grid_of(inputs, coder, sees, pixels), sees, on_tokens)


def grid_of(inputs: Inputs, coder: CentroidTokenizer, sees: str, pixels: PretrainPixelSettings) -> tuple[int, int]:
    """The grid of codes that is learnt from; ValueError for a crop of it that decoded images would not have."""
    if not isinstance(inputs, TokenInputs):
        side = pixels.image_size // coder.patch_size
        return side, side
    if sees == "pixels" and inputs.grid != coder.grid:
        raise ValueError(
            f"model.grid_side {inputs.grid[0]} with ccvit.sees pixels; expected whole grids; leave it out, and crop by "
            "pixels.crop_area"
        )
    return inputs.grid


def coded_images(
    images: Folder | None,
    source: SourceSettings | None,
    tokenizer: Folder | None,
    run: Folder,
    pixels: PretrainPixelSettings,
    unit: int,
    loop: LoopSettings,
    world: World,
    on_progress: Progress,
) -> Inputs:
    """Images with the tokenizer that names their patches; ValueError where one of them is not given."""
    if images is None or tokenizer is None:
        raise ValueError("images None or ccvit.tokenizer None; expected both, or a dataset; give what to train on")
    found = image_inputs(
        images,
        run,
        source=source or SourceSettings(),
        pixels=pixels,
        world=world,
        need_labels=False,
        memory_gib=loop.memory_gib,
        on_progress=on_progress,
    )
    return with_tokenizer(found, pixels, tokenizer, unit)


def with_tokenizer(inputs: Inputs, pixels: PretrainPixelSettings, tokenizer: Folder, unit: int) -> Inputs:
    """Images with the tokenizer that names their patches."""
    coder, about = load_tokenizer(tokenizer)
    patch = centroids_of(coder, tokenizer.uri).patch_size
    if pixels.image_size % patch:
        raise ValueError(
            f"pixels.image_size {pixels.image_size} with a tokenizer of {patch}x{patch} patches; expected a multiple; "
            f"set {pixels.image_size // patch * patch or patch}"
        )
    identity = {**inputs.identity, "patch_size": unit * patch, "tokenizer": about["fingerprint"]}
    return replace(inputs, tokenizer=coder, identity=identity)


def centroids_of(tokenizer: Tokenizer | None, where: str) -> CentroidTokenizer:
    """ValueError unless it is a centroid tokenizer, whose codes are pixels."""
    if not isinstance(tokenizer, CentroidTokenizer):
        family = tokenizer.family if tokenizer else None
        raise ValueError(
            f"tokenizer {family} of {where} for objective ccvit; expected a centroid tokenizer, whose codes are "
            "pixels; take a dataset of one, or objective=mtm"
        )
    return tokenizer
