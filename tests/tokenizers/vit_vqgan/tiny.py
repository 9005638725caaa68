"""A tiny autoencoder, its tokenizer and its training model, and images."""

import torch

from seit_ray.tokenizers.fit_numbers import VqganSize
from seit_ray.tokenizers.vit_vqgan import VitVqganTokenizer
from seit_ray.tokenizers.vit_vqgan.network import VitVqgan
from seit_ray.tokenizers.vit_vqgan.training import VqganTrainingModel

ENCODER, DECODER = VqganSize(16, 1, 1, 24), VqganSize(12, 2, 1, 20)


def tiny_network(*, seed=0, image_size=8, patch_size=2, codebook_size=16, code_width=6):
    """A seeded network whose decoder differs in size from its encoder."""
    torch.manual_seed(seed)
    return VitVqgan(
        image_size=image_size,
        patch_size=patch_size,
        codebook_size=codebook_size,
        code_width=code_width,
        encoder=ENCODER,
        decoder=DECODER,
    )


def tiny_tokenizer(*, resize="squash", **numbers):
    """Its tokenizer."""
    return VitVqganTokenizer(tiny_network(**numbers), resize=resize)


def tiny_training(codebook_update="gradient", *, discriminator=None, seed=0, **numbers):
    """Its training model, whose codebook begins at its first vectors."""
    model = VqganTrainingModel(
        tiny_network(seed=seed, **numbers), codebook_update=codebook_update, discriminator=discriminator
    )
    model.init_codebook(smooth_images(8, model.network.image_size))
    return model.train()


def random_images(num, size, seed=0):
    """Noise, uint8 [N,3,H,W]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (num, 3, size, size), generator=generator, dtype=torch.uint8)


def smooth_images(num, size, seed=0):
    """Gradients between random colours, uint8 [N,3,H,W]."""
    corners = torch.rand(num, 3, 2, 2, generator=torch.Generator().manual_seed(seed))
    images = torch.nn.functional.interpolate(corners, size=(size, size), mode="bilinear", align_corners=True)
    return images.mul(255).round().to(torch.uint8)
