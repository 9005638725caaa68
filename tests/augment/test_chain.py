"""The whole chain: what is off changes nothing, what is on is the parts in their order, on any split."""

import itertools

import pytest
import torch

from seit_ray.augment.chain import Augment
from seit_ray.augment.crops import crop_resize, random_boxes
from seit_ray.augment.lookup import PixelAdapter
from seit_ray.augment.mixing import draw_share, mix_maps
from seit_ray.augment.noise import add_noise, draw_noise
from seit_ray.augment.random import StepRandom
from seit_ray.augment.rows import partners, split_pairs
from seit_ray.augment.synonyms import nearest_codes
from seit_ray.augment.token_eda import token_eda
from seit_ray.models.tokenadapt import TokenAdapt
from seit_ray.tokenizers.codebook import embed_codes, quantize_maps

GRID, OUT, K, D = (6, 8), (4, 6), 30, 5
CODEBOOK = torch.randn(K, D, generator=torch.Generator().manual_seed(0))
SYNONYMS = nearest_codes(CODEBOOK, 3)
SEIT = {"grid": GRID, "out_grid": OUT, "synonym_prob": 0.25, "swap_prob": 0.25, "random_crop": True}
SEIT |= {"noise_prob": 0.5, "cutmix_alpha": 1.0}
FINETUNE = {"grid": GRID, "out_grid": OUT, "output": "codes", "random_crop": True, "cutmix_alpha": 1.0}
FINETUNE |= {"noise_prob": 0.75, "color_adapt_prob": 0.25, "color_before_crop": True}
FINETUNE |= {"adapt_mixup_alpha": 0.8, "adapt_cutmix_alpha": 1.0}


def batch(num, start=0):
    tokens = torch.randint(K, (64, GRID[0] * GRID[1]), generator=torch.Generator().manual_seed(1))
    return tokens[start : start + num], torch.arange(64)[start : start + num]


def rng(start, stop, total=None, step=3):
    return StepRandom(9, step, slice(start, stop), total or stop)


def adapter():
    torch.manual_seed(0)
    sizes = {"width": 16, "num_heads": 2, "head_dim": 8, "mlp_width": 24}
    return TokenAdapt(grid=GRID, out_grid=OUT, num_codes=K, dim=D, **sizes).eval().requires_grad_(False)


def augmented(settings, start, stop, total, **tables):
    tokens, labels = batch(stop - start, start)
    return Augment(CODEBOOK, **tables, **settings)(tokens, labels, rng(start, stop, total))


def test_nothing_on_returns_the_tokens_or_their_centre():
    tokens, labels = batch(5)
    out = Augment(CODEBOOK, grid=GRID)(tokens, labels, rng(0, 5))
    assert out.inputs is tokens
    assert (out.labels is labels, out.partner_labels, out.weight) == (True, None, None)
    chain = Augment(CODEBOOK, grid=GRID, out_grid=OUT)
    expected = tokens.view(5, *GRID)[:, 1:5, 1:7].flatten(1)
    assert torch.equal(chain(tokens, None, rng(0, 5)).inputs, expected)
    assert torch.equal(chain.eval_tokens(tokens), expected)


def test_token_eda_alone_stays_tokens():
    tokens, labels = batch(20)
    chain = Augment(CODEBOOK, synonyms=SYNONYMS, grid=GRID, synonym_prob=0.5, swap_prob=0.3, synonym_share=0.4)
    expected = token_eda(tokens, GRID, SYNONYMS, rng(0, 20), synonym_prob=0.5, swap_prob=0.3, synonym_share=0.4)
    out = chain(tokens, labels, rng(0, 20))
    assert torch.equal(out.inputs, expected)
    assert not torch.equal(out.inputs, tokens)


def test_seits_chain_is_its_parts_in_order():
    tokens, labels = batch(11)
    out = Augment(CODEBOOK, synonyms=SYNONYMS, **SEIT)(tokens, labels, rng(0, 11))
    r = rng(0, 11)
    maps = embed_codes(token_eda(tokens, GRID, SYNONYMS, r).view(-1, *GRID), CODEBOOK)
    maps = crop_resize(maps, random_boxes(r, GRID), OUT)
    units = CODEBOOK.std(0, correction=0)
    maps = add_noise(maps, r.uniform("color") < 0.5, *draw_noise(r, (D, *OUT)), units=units)
    share, partner = draw_share(r, OUT, cutmix_alpha=1.0), partners(r.rows)
    assert torch.allclose(out.inputs, mix_maps(maps, partner, share), atol=1e-5)
    assert out.partner_labels.tolist() == [1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 10]
    assert torch.allclose(out.weight, share.mean(dim=(1, 2)))
    codes = Augment(CODEBOOK, synonyms=SYNONYMS, **SEIT, output="codes", metric="l2")(tokens, labels, rng(0, 11))
    assert torch.equal(codes.inputs, quantize_maps(out.inputs, CODEBOOK, "l2").flatten(1))


@pytest.mark.parametrize("mode", ["batch", "pair"])
@pytest.mark.parametrize("adapts", [False, True])
@pytest.mark.parametrize("total", [24, 21])
def test_any_split_between_pairs_gives_the_same(mode, adapts, total):
    cases = [SEIT | {"color_adapt_prob": 0.4}, SEIT | {"color_per": "batch", "color_share": 0.5, "noise_prob": 1.0}]
    tables = {"synonyms": SYNONYMS}
    if adapts:
        cases, tables = [FINETUNE, FINETUNE | {"adapt_share": 0.25, "output": "maps"}], {"token_adapt": adapter()}
    for settings in cases:
        whole = augmented(settings | {"mix_mode": mode}, 0, total, total, **tables)
        for cuts in ((0, 8, total), (0, 2, 4, 18, total), (0, total - 1, total)):
            if cuts[-2] % 2:
                continue
            parts = [
                augmented(settings | {"mix_mode": mode}, a, b, total, **tables) for a, b in itertools.pairwise(cuts)
            ]
            for name in ("inputs", "labels", "partner_labels", "weight"):
                joined = torch.cat([getattr(part, name) for part in parts])
                expected = getattr(whole, name)
                if name == "inputs" and settings.get("output") == "codes":
                    # Rounding differs with the batch's size: a code in a thousand may be close to two.
                    assert (joined == expected).float().mean() > 0.998, (cuts, name)
                elif name == "inputs":
                    close = torch.isclose(joined, expected, atol=1e-4).float().mean()
                    assert close > 0.998, (cuts, name)
                else:
                    assert torch.allclose(joined, expected), (cuts, name)


def test_a_row_meets_noise_or_colours_or_neither_in_these_shares():
    settings = {"grid": GRID, "noise_prob": 0.5, "color_adapt_prob": 0.3, "noise_scale": 0.0, "noise_std": 100.0}
    tokens, _ = batch(2)
    tokens, num = tokens.repeat(1500, 1), 3000
    for share in (1.0, 0.5):
        chain = Augment(CODEBOOK, **settings, color_share=share)
        out = chain(tokens, None, rng(0, num)).inputs
        maps = embed_codes(tokens.view(-1, *GRID), CODEBOOK)
        moved = (out - maps).abs().amax(dim=(1, 2, 3))
        noisy, same = moved > 20, moved == 0
        assert noisy.float().mean().item() == pytest.approx(0.5 * share, abs=0.035)
        assert same.float().mean().item() == pytest.approx(1 - 0.8 * share, abs=0.035)
        colored = ~noisy & ~same
        swapped = maps[partners(torch.arange(num))].mean(dim=(2, 3))
        assert torch.allclose(out.mean(dim=(2, 3))[colored], swapped[colored], atol=1e-4)


def test_one_kind_of_colour_for_the_whole_batch_as_published():
    chain = Augment(CODEBOOK, grid=GRID, noise_prob=0.5, color_per="batch", color_share=0.5)
    tokens, _ = batch(64)
    maps = embed_codes(tokens.view(-1, *GRID), CODEBOOK)
    changed = [(chain(tokens, None, rng(0, 64, step=s)).inputs != maps).flatten(1).any(1).sum() for s in range(40)]
    some = [count for count in changed if count]
    assert 8 < len(some) < 32
    assert all(15 < count < 49 for count in some)


def test_half_of_the_pairs_go_through_token_adapt():
    tokens, labels = batch(16)
    f_and_g = adapter()
    quiet = {"grid": GRID, "out_grid": OUT, "output": "codes", "flip_prob": 0.0, "affine_prob": 0.0}
    quiet |= {"random_crop": True, "crop_area": (1.0, 1.0), "crop_aspect": (8 / 6, 8 / 6)}  # the whole grid, resized
    out = Augment(CODEBOOK, token_adapt=f_and_g, **quiet)(tokens, labels, rng(0, 16))
    stay, go = split_pairs(rng(0, 16), 0.5)
    assert go.tolist() == [2, 3, 6, 7, 10, 11, 14, 15]
    maps = embed_codes(tokens.view(-1, *GRID), CODEBOOK)
    boxes = torch.tensor([[0, 0, *GRID]]).expand(8, -1)
    expected = f_and_g.to_codes(crop_resize(f_and_g.to_feature(maps[go]), boxes * 2, f_and_g.map_size)).flatten(1)
    assert (out.inputs[go] == expected).float().mean() > 0.99
    expected = quantize_maps(crop_resize(maps[stay], boxes, OUT), CODEBOOK).flatten(1)
    assert (out.inputs[stay] == expected).float().mean() > 0.99
    assert (out.partner_labels, out.weight) == (None, None)


def test_rows_that_are_not_mixed_have_weight_one():
    tables = {"token_adapt": adapter()}
    out = augmented(FINETUNE | {"adapt_mixup_alpha": 0.0, "adapt_cutmix_alpha": 0.0}, 0, 16, 16, **tables)
    go = split_pairs(rng(0, 16), 0.5)[1]
    assert out.weight[go].tolist() == [1.0] * 8
    assert torch.equal(out.partner_labels[go], out.labels[go])
    stay = split_pairs(rng(0, 16), 0.5)[0]
    assert torch.equal(out.partner_labels[stay], out.labels[stay] ^ 1)
    for share in (0.0, 1.0):
        assert augmented(FINETUNE | {"adapt_share": share}, 0, 5, 5, **tables).inputs.shape == (5, 24)


def test_a_batch_of_one_row_passes():
    for settings, tables in ((SEIT, {"synonyms": SYNONYMS}), (FINETUNE, {"token_adapt": adapter()})):
        out = augmented(settings, 6, 7, 9, **tables)
        assert out.inputs.isfinite().all()
        assert (out.labels.tolist(), out.partner_labels.tolist()) == ([6], [6])


def test_outputs_have_their_shapes_and_no_gradient():
    tokens, labels = batch(7)
    for codes, shape in (("maps", (7, D, *OUT)), ("codes", (7, OUT[0] * OUT[1]))):
        settings = FINETUNE | {"output": codes}
        codebook = CODEBOOK.clone().requires_grad_()
        out = Augment(codebook, token_adapt=adapter(), **settings)(tokens, labels, rng(0, 7))
        assert out.inputs.shape == shape
        assert not out.inputs.requires_grad
        assert out.inputs.dtype == (torch.float32 if codes == "maps" else torch.int64)
        assert ((out.weight >= 0) & (out.weight <= 1)).all()
    larger = Augment(CODEBOOK, grid=GRID, out_grid=(9, 11), random_crop=True)(tokens, None, rng(0, 7))
    assert larger.inputs.shape == (7, D, 9, 11)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"output": "pixels"}, "output 'pixels'; expected one of maps, codes"),
        ({"metric": "dot"}, "metric 'dot'; expected one of cosine, l2"),
        ({"color_per": "epoch"}, "color_per 'epoch'; expected one of sample, batch"),
        ({"synonym_prob": 0.5}, r"synonyms None of 30 codes; expected \[30,S\]"),
        ({"noise_prob": 0.7, "color_adapt_prob": 0.7}, r"noise_prob \+ color_adapt_prob 1\.4; expected 0 to 1"),
        ({"swap_prob": 1.2}, r"swap_prob 1\.2; expected 0 to 1"),
        ({"noise_std": -1.0}, r"noise_std -1\.0; expected 0 or more"),
        ({"out_grid": (7, 8)}, "crop to 7x8 of a grid of 6x8"),
        ({"out_grid": (0, 8), "random_crop": True}, "expected sides of 1 or more"),
        ({"crop_area": (0.0, 1.0)}, "crop area .*; expected 0 < area"),
        ({"mix_mode": "elem"}, "mode 'elem'; expected one of batch, pair"),
        ({"cutmix_alpha": -1.0}, r"cutmix_alpha -1\.0; expected 0 or more"),
        ({"max_shear": 100.0}, r"max_shear 100\.0"),
    ],
)
def test_wrong_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Augment(CODEBOOK, **({"grid": GRID} | changes))


def test_tables_and_batches_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="expected floats"):
        Augment(CODEBOOK.long(), grid=GRID)
    with pytest.raises(ValueError, match=r"TokenAdapt of grids \(6, 8\) to \(4, 6\); expected \(6, 8\) to \(5, 6\)"):
        Augment(CODEBOOK, token_adapt=adapter(), grid=GRID, out_grid=(5, 6))
    with pytest.raises(ValueError, match="color_before_crop False with TokenAdapt; expected True"):
        Augment(CODEBOOK, token_adapt=adapter(), grid=GRID, out_grid=OUT, noise_prob=0.5)
    chain, (tokens, labels) = Augment(CODEBOOK, grid=GRID, cutmix_alpha=1.0), batch(4)
    with pytest.raises(ValueError, match=r"tokens \[4, 40\]; expected \[B,48\], a grid of 6x8"):
        chain(tokens[:, :40], labels, rng(0, 4))
    with pytest.raises(ValueError, match="4 samples with 3 labels and random numbers of 4 rows"):
        chain(tokens, labels[:3], rng(0, 4))
    with pytest.raises(ValueError, match="4 samples with 4 labels and random numbers of 5 rows"):
        chain(tokens, labels, rng(0, 5))
    with pytest.raises(ValueError, match="labels None; expected int64"):
        chain(tokens, None, rng(0, 4))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("settings", [SEIT | {"color_adapt_prob": 0.4}, FINETUNE, FINETUNE | {"reference": True}])
def test_a_gpu_computes_the_same_and_is_never_waited_for(settings):
    (tokens, labels), expected = batch(24), []
    for device in ("cpu", "cuda"):
        f_and_g = adapter().to(device) if "adapt_mixup_alpha" in settings else None
        chain = Augment(CODEBOOK.to(device), synonyms=SYNONYMS.to(device), token_adapt=f_and_g, **settings)
        inputs = tokens.to(device), labels.to(device)
        chain(*inputs, StepRandom(9, 3, slice(0, 24), 24, device))  # once, for what is made once
        torch.cuda.set_sync_debug_mode("error" if device == "cuda" else "default")
        try:
            out = chain(*inputs, StepRandom(9, 3, slice(0, 24), 24, device))
        finally:
            torch.cuda.set_sync_debug_mode("default")
        expected.append(out.inputs.cpu().float())
    close = torch.isclose(*expected, atol=1e-4).float().mean()
    assert close > 0.99


@pytest.mark.parametrize("reference", [False, True])
def test_noise_is_in_units_of_the_codebook_or_absolute_as_published(reference):
    tokens, _ = batch(6)
    settings = {"grid": GRID, "noise_prob": 1.0, "reference": reference}
    moved = []
    for factor in (1.0, 0.25):
        codebook = CODEBOOK * factor
        maps = embed_codes(tokens.view(-1, *GRID), codebook)
        moved.append(Augment(codebook, **settings)(tokens, None, rng(0, 6)).inputs - maps)
    assert torch.allclose(moved[1], moved[0] * (1.0 if reference else 0.25), atol=1e-5)


def pixel_adapter(grid, out_grid):
    codebook = torch.rand(K, 12, generator=torch.Generator().manual_seed(3))
    return codebook, PixelAdapter(codebook, grid=grid, out_grid=out_grid)


@pytest.mark.parametrize("out_grid", [GRID, OUT, (3, 7)])
def test_without_random_crops_adapted_rows_keep_the_centre_that_others_keep(out_grid):
    """Flips are drawn too, so that without them nothing changes, and with them all cells stay whole."""
    codebook, token_adapt = pixel_adapter(GRID, out_grid)
    settings = {"grid": GRID, "out_grid": out_grid, "output": "codes", "metric": "l2", "affine_prob": 0.0}
    tokens, _ = batch(16)
    tables = {"token_adapt": token_adapt, "adapt_share": 1.0, "color_before_crop": True}
    chain = Augment(codebook, **settings, **tables, flip_prob=0.0)
    assert torch.equal(chain(tokens, None, rng(0, 16)).inputs, chain.eval_tokens(tokens))
    cropping = Augment(codebook, **settings, **tables, flip_prob=0.0, random_crop=True)
    assert not torch.equal(cropping(tokens, None, rng(0, 16)).inputs, chain.eval_tokens(tokens))
