"""What a finished classifier or segmenter asks of images, from the words of its run.

Imports no torch: a dry run asks here too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from seit_ray.models.about import CLASSIFIERS, check_weights, read_about
from seit_ray.shards.dataset import TokenDataset
from seit_ray.shards.marker import MARKER
from seit_ray.storage import Folder
from seit_ray.tokenizers import about as tokenizers

__all__ = ["ImageRun", "read_image_run"]


@dataclass(frozen=True)
class ImageRun:
    """Images are brought to image_size by resize, decoded in mode decode; tokenizer None is a model of pixels.

    kind: classifier or segmenter; void: the value of what is no class in the maps of a segmenter.
    """

    kind: str
    class_names: list[str]
    image_size: int
    resize: str
    decode: str
    tokenizer: Folder | None
    void: int | None = None

    def words(self) -> str:
        """For a table."""
        return f"{self.image_size}x{self.image_size} pixels, {self.resize}"


def read_image_run(run: Folder, *, tokenizer: Folder | None, weights: str) -> ImageRun:
    """What a finished run asks of images; its tokenizer lies in `tokenizer`, or in the run's token dataset.

    ValueError when the run is not finished, of none of CLASSIFIERS or without these weights, and when its tokenizer is
    not found, another, or cannot encode images.
    """
    about = read_about(run, *CLASSIFIERS)
    check_weights(run, weights)
    if about["settings"].get("inputs") != "pixels":
        folder, found = tokenizer_of(run, about, tokenizer)
        if found["family"] == "codebook":
            raise ValueError(
                f"images to encode with {folder.uri}, of which only the codebook was imported; expected a tokenizer "
                "that can; import the tokens again with tokenizer=FOLDER of the whole tokenizer"
            )
        config = found["config"]
        size, resize = config["image_size"], config["resize"]
        return ImageRun(
            about["kind"], about["class_names"], size, resize, decode_of(run, about), folder, about.get("void")
        )
    if tokenizer is not None:
        raise ValueError(
            f"tokenizer {tokenizer.uri} for {run.uri}, a model of pixels; expected none; leave tokenizer out"
        )
    if not {"image_size", "resize"} <= set(about):
        raise ValueError(
            f"{run.uri}/model.json does not say how images were made to fit; expected image_size and resize; "
            "export the run again"
        )
    size, resize, void = about["image_size"], about["resize"], about.get("void")
    return ImageRun(about["kind"], about["class_names"], size, resize, "exact", None, void)


def decode_of(run: Folder, about: dict[str, Any]) -> str:
    """How the images of a run's token dataset were decoded; exact where that is not known."""
    data = run.at(about["data"]) if about.get("data") else None
    if data is None or not data.exists(MARKER):
        return "exact"
    return TokenDataset(data).info.plan.get("decode", "exact")


def tokenizer_of(run: Folder, about: dict[str, Any], given: Folder | None) -> tuple[Folder, dict[str, Any]]:
    """The tokenizer whose fingerprint a run's model.json names, from a given folder or from the run's dataset."""
    folder = given
    if folder is None and about.get("data"):
        folder = run.at(about["data"]).join("tokenizer")
    if folder is None or not folder.exists("tokenizer.json"):
        where = f"in {folder.uri}" if folder is not None else "known"
        raise ValueError(
            f"tokenizer {about.get('tokenizer')} of {run.uri} is not {where}; expected tokenizer.json; name its folder "
            "with tokenizer=FOLDER"
        )
    found = tokenizers.read_about(folder)
    if found["fingerprint"] != about.get("tokenizer"):
        raise ValueError(
            f"{folder.uri} has fingerprint {found['fingerprint']}; expected {about.get('tokenizer')}, that {run.uri} "
            "was trained with; name the folder of that one with tokenizer=FOLDER"
        )
    return folder, found
