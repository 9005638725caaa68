"""Keys of fitting a tokenizer: k-means centroids, or a ViT-VQGAN and its training."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from seit_ray.config.loop import Loop, Optimizer
from seit_ray.config.sections import Codes, Decay, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, Section


class Centroid(Section):
    """The centroid tokenizer: k-means of pixel patches (CCViT)."""

    undecided = frozenset({"num_workers"})

    image_size: PositiveInt = Field(256, description="side in pixels that images are brought to")
    patch_size: PositiveInt = Field(8, description="side in pixels of a patch; one token a patch")
    codebook_size: Codes = Field(1024, description="number of centroids K")
    resize: Literal["squash", "crop"] = Field(
        "squash", description="squash both sides, or scale the short side and crop the centre"
    )
    iterations: PositiveInt = Field(20, description="Lloyd iterations at most")
    sample_images: PositiveInt = Field(5000, description="images to fit on, a seeded sample")
    sample_patches: PositiveInt = Field(500_000, description="patches to fit on, a seeded sample")
    num_workers: NonNegativeInt = Field(
        0, description="Ray actors that share decoding and k-means; 0 fits in this process; the result is the same"
    )


class VitVqgan(Section):
    """The ViT-VQGAN tokenizer: an autoencoder with a codebook, trained on images, or published weights of one."""

    frozen = "seit_ray.runs.settings:VqganSettings"
    places = frozenset({"published", "perceptual_weights"})

    published: str | None = Field(
        None, description="file of published weights to take as they are, without training: a path or bucket"
    )
    image_size: PositiveInt = Field(256, description="side in pixels that images are brought to")
    patch_size: PositiveInt = Field(8, description="side in pixels of a patch; one token a patch")
    resize: Literal["squash", "crop"] = Field(
        "squash", description="squash both sides, or scale the short side and crop the centre"
    )
    codebook_size: Codes = Field(8192, description="number of codes K")
    code_width: PositiveInt = Field(32, description="width of a code")
    size: Literal["nano", "small", "base", "large"] = Field("small", description="named size of encoder and decoder")
    width: PositiveInt | None = Field(None, description="overrides the size's width")
    depth: PositiveInt | None = Field(None, description="overrides the size's number of blocks")
    num_heads: PositiveInt | None = Field(None, description="overrides the size's heads (each 64 wide)")
    mlp_width: PositiveInt | None = Field(None, description="overrides the size's hidden width")
    max_images: PositiveInt | None = Field(None, description="a seeded sample of so many of each split; else all")
    codebook_update: Literal["gradient", "ema"] = Field(
        "gradient", description="the codebook learns by gradient, or follows a moving average of its vectors"
    )
    codebook_decay: Decay = Field(0.99, description="of that average")
    init_images: NonNegativeInt = Field(
        256, description="the codebook starts from k-means of the vectors of so many images; 0 = at random"
    )
    revive_steps: NonNegativeInt = Field(100, description="codes unused for so many steps are revived; 0 = never")
    reconstruction_weight: NonNegativeFloat = Field(1.0, description="weight of the squared error")
    quantizer_weight: NonNegativeFloat = Field(1.0, description="weight of the quantiser's loss (commitment 0.25)")
    perceptual_network: str | None = Field(None, description="timm model whose feature maps are compared; none else")
    perceptual_weights: str | None = Field(None, description="its weights: safetensors or torch, a path or bucket")
    perceptual_weight: NonNegativeFloat = Field(0.1, description="weight of the perceptual distance")
    adversarial_weight: NonNegativeFloat = Field(0.0, description="weight of the adversarial loss (published: 0.1)")
    adversarial_start_step: NonNegativeInt = Field(0, description="from this step on")
    discriminator_width: PositiveInt = Field(64, description="channels of the discriminator's first layer")
    discriminator_layers: PositiveInt = Field(3, description="its layers of stride 2")


class VqganOptimizer(Optimizer):
    """AdamW for a tokenizer."""

    blr: PositiveFloat = Field(1e-4, description="base rate, scaled by lr_rule")
    warmup_epochs: NonNegativeFloat = Field(1, description="epochs of linear warm-up")
    weight_decay: NonNegativeFloat = Field(1e-4, description="decoupled decay; none on 1-D parameters")
    betas: tuple[Decay, Decay] = Field((0.9, 0.99), description="AdamW betas")


class VqganLoop(Loop):
    """The training of a tokenizer."""

    epochs: PositiveInt = Field(100, description="passes over the train split")
    global_batch_size: PositiveInt = Field(256, description="samples a step over all workers")
