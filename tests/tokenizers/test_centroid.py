"""The centroid tokenizer: patch order, round trips, errors, the fit and its report, the fingerprint."""

import pytest
import torch

from seit_ray.tokenizers.centroid import CentroidTokenizer, image_patches
from seit_ray.tokenizers.centroid_fit import fit_centroids
from seit_ray.tokenizers.contract import fingerprint


def random_codebook(codes, patch_size, seed=0):
    """Codes that are bytes, so that decoding rounds nothing: [K,3*p*p] in [0,1]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (codes, 3 * patch_size**2), generator=generator).float() / 255


def random_images(num, size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (num, 3, size, size), dtype=torch.uint8, generator=generator)


def smooth_images(num, size, seed=0):
    """Images of few, similar patches."""
    coarse = random_images(num, 4, seed).float()
    return torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear").to(torch.uint8)


def test_patches_are_in_order_channel_row_column():
    images = torch.arange(2 * 3 * 6 * 6, dtype=torch.uint8).view(2, 3, 6, 6)
    patches = image_patches(images, 6, 2).view(2, 3, 3, 12)
    for image in range(2):
        for row in range(3):
            for column in range(3):
                expected = images[image, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].flatten()
                assert patches[image, row, column].tolist() == expected.tolist()


def test_tokens_are_in_raster_order():
    codebook = torch.stack([torch.full((12,), value) for value in (0.0, 0.25, 0.5, 1.0)])
    tokenizer = CentroidTokenizer(codebook, image_size=4, patch_size=2)
    image = torch.tensor([[0, 64], [128, 255]]).repeat_interleave(2, 0).repeat_interleave(2, 1)
    images = image.to(torch.uint8).expand(1, 3, 4, 4)
    assert tokenizer.encode(images).tolist() == [[0, 1, 2, 3]]


@pytest.mark.parametrize(
    ("image_size", "patch_size", "codes"), [(8, 8, 2), (8, 1, 40), (32, 4, 100), (28, 7, 33), (48, 16, 5)]
)
def test_images_of_centroids_survive_the_round_trip(image_size, patch_size, codes):
    tokenizer = CentroidTokenizer(random_codebook(codes, patch_size), image_size=image_size, patch_size=patch_size)
    side = image_size // patch_size
    tokens = torch.randint(codes, (5, side * side), generator=torch.Generator().manual_seed(1))
    images = tokenizer.decode(tokens)
    assert tokenizer.grid == (side, side)
    assert images.dtype == torch.uint8
    assert images.shape == (5, 3, image_size, image_size)
    assert torch.equal(tokenizer.encode(images), tokens)
    assert torch.equal(tokenizer.decode(tokenizer.encode(images)), images)


def test_encoding_takes_images_in_any_memory_layout():
    tokenizer = CentroidTokenizer(random_codebook(9, 4), image_size=8, patch_size=4)
    images = random_images(3, 8)
    assert torch.equal(tokenizer.encode(images.contiguous(memory_format=torch.channels_last)), tokenizer.encode(images))


def test_encoding_nothing_gives_nothing():
    tokenizer = CentroidTokenizer(random_codebook(9, 4), image_size=8, patch_size=4)
    tokens = tokenizer.encode(random_images(0, 8))
    assert tokens.shape == (0, 4)
    assert tokenizer.decode(tokens).shape == (0, 3, 8, 8)


def test_decoding_clamps_and_rounds():
    codebook = torch.tensor([[-0.2] * 3, [1.3] * 3, [0.6 / 255] * 3])
    tokenizer = CentroidTokenizer(codebook, image_size=1, patch_size=1)
    assert tokenizer.decode(torch.tensor([[0], [1], [2]]))[:, 0, 0, 0].tolist() == [0, 255, 1]


@pytest.mark.parametrize(
    "images",
    [
        random_images(2, 8).float(),
        random_images(2, 16),
        random_images(2, 8)[:, :1],
        random_images(2, 8)[0],
        random_images(2, 8)[..., :4],
    ],
)
def test_other_images_are_an_error(images):
    tokenizer = CentroidTokenizer(random_codebook(9, 4), image_size=8, patch_size=4)
    with pytest.raises(ValueError, match=r"expected uint8 \[B,3,8,8\]; decode them with"):
        tokenizer.encode(images)


@pytest.mark.parametrize(("image_size", "patch_size", "use"), [(30, 8, 24), (5, 8, 8)])
def test_image_size_must_be_a_multiple_of_patch_size(image_size, patch_size, use):
    with pytest.raises(ValueError, match=f"expected a multiple of patch_size; use image_size {use}$"):
        CentroidTokenizer(random_codebook(3, patch_size), image_size=image_size, patch_size=patch_size)


@pytest.mark.parametrize("shape", [(9, 47), (9, 3, 16), (48,)])
def test_codebook_must_fit_the_patch(shape):
    with pytest.raises(ValueError, match=r"codebook .*; expected \[K, 48\] for patch_size 4"):
        CentroidTokenizer(torch.zeros(shape), image_size=8, patch_size=4)


def test_fit_reports_what_it_did():
    images = smooth_images(40, 16)
    seen = []
    tokenizer, report = fit_centroids(
        images,
        patch_size=4,
        codebook_size=24,
        resize="crop",
        iterations=6,
        on_progress=lambda *at: seen.append(at),
    )
    assert (tokenizer.grid, tokenizer.resize, tokenizer.codebook.shape) == ((4, 4), "crop", (24, 48))
    assert report["images"] == 36
    assert report["patches"] == 36 * 16
    assert 1 <= report["iterations"] == len(report["objective"]) - 1 == len(seen) <= 6
    assert report["objective"][-1] <= report["objective"][0]
    assert report["empty_clusters_repaired"] == 0
    assert report["code_usage"] == 1.0
    assert report["psnr_db"] > 15


def test_held_out_psnr_is_that_of_the_last_tenth():
    images = smooth_images(40, 16)
    tokenizer, report = fit_centroids(images, patch_size=4, codebook_size=24)
    held = images[36:]
    error = (held.double() - tokenizer.decode(tokenizer.encode(held)).double()).square().mean()
    expected = 10 * torch.log10(255**2 / error).item()
    assert report["psnr_held_out_db"] == pytest.approx(expected)
    changed = torch.cat([images[:36], 255 - images[36:]])
    again, _ = fit_centroids(changed, patch_size=4, codebook_size=24)
    assert torch.equal(again.codebook, tokenizer.codebook)  # the fit has not seen them


def test_few_images_are_all_fitted_on():
    _, report = fit_centroids(smooth_images(19, 16), patch_size=4, codebook_size=8)
    assert report["images"] == 19
    assert "psnr_held_out_db" not in report


def test_sampled_patches_are_a_function_of_the_seed():
    images = smooth_images(12, 16)
    settings = {"patch_size": 4, "codebook_size": 8, "sample_patches": 50}
    first, report = fit_centroids(images, seed=1, **settings)
    again, _ = fit_centroids(images, seed=1, **settings)
    other, _ = fit_centroids(images, seed=2, **settings)
    assert report["patches"] == 50
    assert torch.equal(first.codebook, again.codebook)
    assert not torch.equal(first.codebook, other.codebook)


def test_more_centroids_reconstruct_better():
    images = smooth_images(30, 16)
    psnr = [fit_centroids(images, patch_size=4, codebook_size=k)[1]["psnr_held_out_db"] for k in (4, 16, 64)]
    assert psnr[0] < psnr[1] < psnr[2]


def test_fitting_on_too_few_images_is_an_error():
    with pytest.raises(ValueError, match="8 patches to fit 9 centroids"):
        fit_centroids(smooth_images(2, 8), patch_size=4, codebook_size=9)


def test_config_and_tensors_rebuild_it():
    tokenizer = CentroidTokenizer(random_codebook(9, 4), image_size=8, patch_size=4, resize="crop")
    again = CentroidTokenizer.build(tokenizer.config(), tokenizer.tensors())
    images = random_images(3, 8)
    assert fingerprint(again) == fingerprint(tokenizer)
    assert torch.equal(again.encode(images), tokenizer.encode(images))


def test_fingerprint_changes_with_weights_and_settings_alone():
    codebook = random_codebook(9, 2)
    mark = fingerprint(CentroidTokenizer(codebook, image_size=8, patch_size=2))
    assert len(mark) == 16
    assert int(mark, 16) >= 0
    other_layout = codebook.T.contiguous().T
    same = CentroidTokenizer(other_layout.double(), image_size=8, patch_size=2, resize="squash").to("cpu")
    same.encode(random_images(2, 8))
    assert fingerprint(same) == mark
    nudged = codebook.clone()
    nudged[3, 5] += 1e-6
    different = [
        CentroidTokenizer(nudged, image_size=8, patch_size=2),
        CentroidTokenizer(codebook.flip(0), image_size=8, patch_size=2),
        CentroidTokenizer(codebook[:8], image_size=8, patch_size=2),
        CentroidTokenizer(codebook, image_size=16, patch_size=2),
        CentroidTokenizer(codebook, image_size=8, patch_size=2, resize="crop"),
    ]
    assert len({mark, *map(fingerprint, different)}) == 6
