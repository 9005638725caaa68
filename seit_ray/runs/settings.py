"""What a user sets of a run, as frozen values; fields as in `config`, where each has its meaning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from seit_ray.augment.numbers import ChainSettings


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """A transformer of tokens; what is None is that of the named size."""

    size: str = "base"
    width: int | None = None
    depth: int | None = None
    num_heads: int | None = None
    decoder_width: int | None = None
    decoder_depth: int | None = None
    decoder_num_heads: int | None = None
    token_dim: int = 32
    stem_kernel: int = 2
    grid_side: int | None = None
    dropout: float = 0.1


@dataclass(frozen=True, kw_only=True)
class ClassifierSettings(ModelSettings):
    """A classifier of tokens or pixels."""

    inputs: str = "learned"
    stem_stride: int | None = None
    stem_padding: int = 0
    stem_layers: int = 0
    stem_width: int = 64
    stem_pixels: bool = False
    standardize: bool = False
    encoder: str | None = None
    train_only: str = "all"
    pool: str = "mean"
    drop_path: float = 0.1


@dataclass(frozen=True, kw_only=True)
class MaskingSettings:
    """Keywords of `MTMObjective`, and whether the decoder drops attention weights, as published."""

    mask_ratio_min: float = 0.40
    mask_ratio_mu: float = 0.45
    mask_ratio_std: float = 0.25
    mask_ratio_max: float = 1.0
    label_smoothing: float = 0.0
    loss: str = "ce"
    reference: bool = False


@dataclass(frozen=True, kw_only=True)
class AugmentationSettings(ChainSettings):
    """The chain, and where its synonyms and its spatial augmentation come from."""

    num_synonyms: int = 5
    synonym_metric: str | None = None
    adapt: str = "none"


@dataclass(frozen=True, kw_only=True)
class ProbeSettings:
    """Probes on the way; `every_epochs` 0 is never, the others are keywords of `probe_metrics`."""

    every_epochs: int = 0
    methods: tuple[str, ...] = ("linear", "knn", "rankme")
    max_train: int = 10_000
    max_val: int = 10_000
    k: int = 20
    temperature: float = 0.07
    ridge: float | Literal["auto"] = "auto"
    epochs: int = 50


@dataclass(frozen=True, kw_only=True)
class PixelSettings:
    """Images as a classifier of pixels sees them; sides in pixels."""

    image_size: int = 224
    patch_size: int = 16
    resize: str = "squash"
    val_fraction: float = 0.0
    seed: int = 0
    max_images: int | None = None
    crop_area: tuple[float, float] | None = (0.08, 1.0)
    flip_prob: float = 0.5


@dataclass(frozen=True, kw_only=True)
class SegmentSettings:
    """The heads of a segmenter, its crops and its windows; blocks are numbers from 1, stride in tokens or pixels."""

    head: str = "uper"
    head_width: int = 256
    aux_width: int = 256
    aux_weight: float = 0.4
    blocks: tuple[int, ...] | None = None
    max_class_share: float = 0.75
    stride: int | None = None


@dataclass(frozen=True, kw_only=True)
class GeometrySettings:
    """Keywords of `draw_geometry`: what TokenAdapt learns; angles in degrees."""

    flip_prob: float = 0.5
    affine_prob: float = 0.5
    link_prob: float = 0.5
    max_angle: float = 30.0
    max_translate: float = 0.2
    max_shear: float = 15.0
    area: tuple[float, float] = (0.08, 1.0)


@dataclass(frozen=True, kw_only=True)
class TokenAdaptSettings:
    """Sizes of f and g; keywords of `TokenAdapt`."""

    width: int = 384
    depth: int = 1
    num_heads: int = 6
    head_dim: int = 64
    mlp_width: int = 1536


@dataclass(frozen=True, kw_only=True)
class VqganSettings:
    """A ViT-VQGAN, its losses and the images that it is trained on."""

    image_size: int = 256
    patch_size: int = 8
    resize: str = "squash"
    codebook_size: int = 8192
    code_width: int = 32
    size: str = "small"
    width: int | None = None
    depth: int | None = None
    num_heads: int | None = None
    mlp_width: int | None = None
    max_images: int | None = None
    codebook_update: str = "gradient"
    codebook_decay: float = 0.99
    init_images: int = 256
    revive_steps: int = 100
    reconstruction_weight: float = 1.0
    quantizer_weight: float = 1.0
    perceptual_network: str | None = None
    perceptual_weights: str | None = None
    perceptual_weight: float = 0.1
    adversarial_weight: float = 0.0
    adversarial_start_step: int = 0
    discriminator_width: int = 64
    discriminator_layers: int = 3


@dataclass(frozen=True)
class WorkerSettings:
    """Training workers; fields as in `config.Workers`. num_workers: so many, or [least, most]; 0 is this process."""

    num_workers: int | tuple[int, int] = 2
    gpus_per_worker: float | None = None
    cpus_per_worker: int = 1
    max_failures: int = 3
    resize_every_s: float = 60.0

    @property
    def least(self) -> int:
        """Workers that it takes at least."""
        return self.num_workers if isinstance(self.num_workers, int) else self.num_workers[0]
