"""What must fit before a ViT-VQGAN is trained. Imports no torch, so that a dry run can ask."""

from __future__ import annotations

from seit_ray.models.about_timm import check_timm_name
from seit_ray.runs.settings import VqganSettings
from seit_ray.storage import Folder, split_uri
from seit_ray.tokenizers.fit_numbers import VqganSize, build_vqgan_size, check_stride

__all__ = ["check_vqgan"]

SIZE_KEYS = ("width", "depth", "num_heads", "mlp_width")


def check_vqgan(settings: VqganSettings, folder: Folder) -> VqganSize:
    """The size of its transformers; ValueError for numbers that do not go together, or a network that is not there.

    folder: any, with the credentials for the weights of the network that images are compared by.
    """
    size = build_vqgan_size(settings.size, **{key: getattr(settings, key) for key in SIZE_KEYS})
    if settings.adversarial_weight:
        check_stride(settings.image_size, 2**settings.discriminator_layers)
    name, weights = settings.perceptual_network, settings.perceptual_weights
    if name is not None:
        if weights is None:
            raise ValueError(f"perceptual_network {name!r} without perceptual_weights; expected a file of its weights")
        check_timm_name("perceptual_network", name)
        place, file = split_uri(weights)
        folder.at(place).join(file).check_readable()
    return size
