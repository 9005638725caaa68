"""The corruptions of ImageNet-C, in pixels, seeded by the image's key: the same for any number of workers."""
