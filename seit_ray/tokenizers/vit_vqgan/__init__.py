"""ViT-VQGAN (Yu et al. 2022), the tokenizer of SeiT: network, tokenizer, published weights, and how it is trained.

Only the tokenizer is imported here: the other modules need timm, whose import takes seconds.
"""

from seit_ray.tokenizers.vit_vqgan.tokenizer import VitVqganTokenizer

__all__ = ["VitVqganTokenizer"]
