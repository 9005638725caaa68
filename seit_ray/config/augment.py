"""Keys of what changes tokens on their way to the model: masking and augmentation."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from seit_ray.config.sections import CropArea, CropAspect, NonNegativeFloat, PositiveInt, Rate, Section, Share

COLORS = ("noise_prob", "color_adapt_prob")
OF_MIXING = ("mix_prob", "switch_prob", "mix_mode")
OF_ADAPT = ("flip_prob", "affine_prob", "max_angle", "max_translate", "max_shear")
# Keys of which one has to be on -> keys that are read then, some of which turn on others below; off is their default.
READ_WITH = {
    ("synonym_prob",): ("synonym_share", "num_synonyms", "synonym_metric"),
    ("random_crop",): ("crop_area", "crop_aspect"),
    ("noise_prob",): ("noise_scale", "noise_std"),
    COLORS: ("color_per", "color_share"),
    (*COLORS, "adapt"): ("color_before_crop",),  # which adapt implies
    ("adapt",): ("adapt_run", "adapt_share", "adapt_mixup_alpha", "adapt_cutmix_alpha", *OF_ADAPT),
    ("mixup_alpha", "cutmix_alpha", "adapt_mixup_alpha", "adapt_cutmix_alpha"): OF_MIXING,
}


class Masking(Section):
    """Mask ratio: one draw a step from a normal truncated to [min, max] (SeiT++); std 0 = always mu."""

    frozen = "seit_ray.runs.settings:MaskingSettings"

    mask_ratio_min: Share = Field(0.40, description="least ratio; this share leaves the encoder")
    mask_ratio_mu: float = Field(0.45, description="mean of the untruncated normal")
    mask_ratio_std: NonNegativeFloat = Field(0.25, description="its standard deviation")
    mask_ratio_max: Share = Field(1.0, description="largest ratio")
    label_smoothing: Rate = Field(0.0, description="label smoothing of the cross-entropy over codes")
    loss: Literal["ce", "bce"] = Field("ce", description="cross-entropy, or binary cross-entropy a code")
    reference: bool = Field(
        False, description="model.dropout on the decoder's attention weights too, as published; slower on a GPU"
    )


class Augment(Section):
    """What changes tokens on their way to the model, in this order (SeiT, SeiT++); everything is off by default."""

    frozen = "seit_ray.runs.settings:AugmentationSettings"
    places = frozenset({"adapt_run"})

    synonym_prob: Share = Field(0.0, description="share of samples with synonyms (Token-EDA; SeiT: 0.25)")
    synonym_share: Share = Field(0.25, description="of their tokens become a synonym")
    num_synonyms: PositiveInt = Field(5, description="nearest codes that a synonym is picked from")
    synonym_metric: Literal["cosine", "l2"] | None = Field(
        None,
        description="make the synonyms anew by this metric; default the dataset's table, or the tokenizer's metric",
    )
    swap_prob: Share = Field(0.0, description="share of samples with two squares exchanged (Token-EDA; SeiT: 0.25)")
    random_crop: bool = Field(False, description="random resized crop of the token map; the centre when off")
    crop_area: CropArea = Field((0.08, 1.0), description="range of the crop's area (SeiT++ pre-training: 0.2, 1)")
    crop_aspect: CropAspect = Field((0.75, 4 / 3), description="range of its width / height")
    noise_prob: Share = Field(0.0, description="share of samples with Emb-Noise (SeiT: 0.5; SeiT++: 0.75)")
    noise_scale: NonNegativeFloat = Field(1.0, description="of a channel, in deviations of the codebook's")
    noise_std: NonNegativeFloat = Field(1.0, description="deviation of the noise of each element, in the same units")
    color_adapt_prob: Share = Field(0.0, description="share of samples with a partner's colours (ColorAdapt; 0.25)")
    color_per: Literal["sample", "batch"] = Field(
        "sample", description="noise or ColorAdapt is drawn a sample; or one kind a batch, as published"
    )
    color_share: Share = Field(1.0, description="of the samples that take part in it (published: 0.5)")
    color_before_crop: bool = Field(
        False, description="colour level on the whole grid; true where adapt is on, which needs it"
    )
    mixup_alpha: NonNegativeFloat = Field(0.0, description="MixUp, 0 = off; needs labels")
    cutmix_alpha: NonNegativeFloat = Field(0.0, description="CutMix, 0 = off (SeiT: 1); needs labels")
    mix_prob: Share = Field(1.0, description="of batches, or pairs, that are mixed")
    switch_prob: Share = Field(0.5, description="of CutMix where MixUp is on too")
    mix_mode: Literal["batch", "pair"] = Field("batch", description="one draw a batch, or for each two neighbours")
    adapt: Literal["none", "tokenadapt", "pixels"] = Field(
        "none",
        description="spatial augmentation: learnt f and g (with adapt_run), or through pixels of a centroid tokenizer",
    )
    adapt_run: str | None = Field(None, description="folder of a train_tokenadapt run, for adapt=tokenadapt")
    adapt_share: Share = Field(0.5, description="share of samples that go this way instead of the plain crop")
    adapt_mixup_alpha: NonNegativeFloat = Field(0.0, description="MixUp between f and g (SeiT++: 0.8)")
    adapt_cutmix_alpha: NonNegativeFloat = Field(0.0, description="CutMix between f and g (SeiT++: 1)")
    flip_prob: Share = Field(0.5, description="horizontal flip between f and g")
    affine_prob: Share = Field(0.5, description="rotation, shift and shear between f and g, each again one in two")
    max_angle: NonNegativeFloat = Field(30.0, description="degrees of rotation")
    max_translate: Share = Field(0.2, description="shift, share of the side")
    max_shear: NonNegativeFloat = Field(15.0, description="degrees of shear")
    reference: bool = Field(False, description="squares, geometry and absolute noise as the published code has them")

    @model_validator(mode="after")
    def _implied(self) -> Augment:
        """adapt_run is a TokenAdapt; that reads the whole grid, so colours change before the crop."""
        given = self.model_fields_set
        if self.adapt_run and "adapt" not in given:
            self.adapt = "tokenadapt"
        for one, other in (("synonym_prob", "swap_prob"), ("noise_prob", "color_adapt_prob")):
            total = getattr(self, one) + getattr(self, other)
            if total > 1:
                raise ValueError(
                    f"augment.{one} + augment.{other} of 1 at most, as a sample has one of them or none; they are "
                    f"{total:g}: lower one"
                )
        if self.adapt == "tokenadapt" and not self.adapt_run:
            raise ValueError("a run of train_tokenadapt; augment.adapt is tokenadapt: set augment.adapt_run=FOLDER")
        if self.adapt != "none" and "color_before_crop" not in given:
            self.color_before_crop = True
        return self
