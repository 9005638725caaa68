"""Odd and bad images through the tokenising job: each becomes the right tokens, or a reject with its reason."""

import torch

from seit_ray.images import decode_image
from seit_ray.storage import Folder
from seit_ray.tokenizers.files import load_tokenizer
from tests.distributed.data.jobs import run
from tests.distributed.data.oracle import check_complete
from tests.images.odd_images import write_odd_images
from tests.tiny_images import write_tokenizer


def test_a_folder_of_odd_images(ray_cluster, tmp_path):
    images, output = Folder(tmp_path / "images"), Folder(tmp_path / "tokens")
    images.write("plain.jpg", b"")
    expected = write_odd_images(images)
    tokenizer = write_tokenizer(tmp_path / "tokenizer")
    dataset = run(
        ray_cluster,
        images,
        tokenizer,
        output,
        {"kind": "flat"},
        val_fraction=0.0,
        rows_per_shard=7,
        max_reject_fraction=0.9,
        max_image_mib=1,
    )
    check_complete(output, set(expected))
    reasons = {row["key"]: row["reason"] for row in dataset.rejected("train").to_pylist()}
    assert set(reasons) == {key for key, odd in expected.items() if not odd.corners}
    for key, reason in reasons.items():
        assert reason.startswith((expected[key].reason, images.uri_of(key))), (key, reason)
        assert "\n" not in reason

    encoder, _ = load_tokenizer(tokenizer)
    rows = dataset.read_split("train")
    for key, tokens in zip(rows.meta["key"].to_pylist(), rows.tokens.tolist(), strict=True):
        pixels = decode_image(expected[key].data, image_size=encoder.image_size, resize=encoder.resize).pixels
        assert tokens == encoder.encode(torch.from_numpy(pixels)[None])[0].tolist(), key
