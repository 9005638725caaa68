"""Storage against accuracy: the same classifier on what different arms store of the same images, bytes counted.

Source: SeiT (Park et al. 2023), section 4.1: subsets, sizes, JPEG qualities and tokens. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from seit_ray.images.recode import Recoding
from seit_ray.runs.settings import AugmentationSettings, ClassifierSettings, PixelSettings
from seit_ray.storage import Folder
from seit_ray.studies.arms import Budget, CentroidSettings, PictureArms, TokenArms
from seit_ray.studies.image_set import ImageSet
from seit_ray.studies.lines import Line
from seit_ray.studies.study import SEED, trial_name
from seit_ray.studies.trials import Stage, Trial, trial_folder
from seit_ray.training.settings import LoopSettings, OptimizerSettings

STAGES = "seit_ray.studies.storage_stages"
FEWER, FEWER_TOKENS, TOKENS = "fewer images", "fewer images, as tokens", "tokens"
BYTES_OF = "bytes of "  # and the arm whose bytes fewer images take
WHOLE = "both"  # of arms that hold all images, as many steps are as many epochs
PREPARED = 0.2  # of the cost of a training
LESS = 0.3  # of a training of as many epochs on fewer images


@dataclass(frozen=True)
class CurveTraining:
    """How the classifier of every arm is trained; the loop's seed is that of the trial."""

    model: ClassifierSettings
    pixels: PixelSettings
    augment: AugmentationSettings
    label_smoothing: float
    loop: LoopSettings
    optimizer: OptimizerSettings
    adapt_run: Folder | None = None

    def arguments(self, seed: int) -> dict[str, Any]:
        """Of a run."""
        return {**vars(self), "loop": replace(self.loop, seed=seed)}

    def of_tokens(self, patch_size: int) -> CurveTraining:
        """With a stem that cuts tokens of such patches into the positions that the pixel arms have."""
        return replace(self, model=replace(self.model, stem_kernel=self.pixels.patch_size // patch_size))


@dataclass(frozen=True)
class Curve:
    """A storage curve: where, of what, which arms, and how each is trained.

    budgets: bytes at which fewer images, as they are and as tokens, are compared; where there are none, fewer images as
    they are, in the bytes of each arm of tokens in each encoding. equal: of fewer images, "steps", "epochs" or both.
    """

    folder: Folder
    data: ImageSet
    pictures: PictureArms
    tokens: TokenArms
    budgets: tuple[int, ...]
    equal: tuple[str, ...]
    training: CurveTraining
    seeds: tuple[int, ...]
    decided_by: Mapping[str, Any]

    def trials(self) -> list[Trial]:
        """What is made, then what is trained on it."""
        found: list[Trial] = []
        makers: dict[str, Trial] = {}
        listing = self.listing()
        source = self.maker("images as they are", "make_pictures", {"recoding": Recoding("source")})
        for arm, setting, recoding in self.pictures.recodings(self.training.pixels.image_size):
            is_source = recoding.kind == "source"
            maker = source if is_source else self.maker(f"{arm} {setting}", "make_pictures", {"recoding": recoding})
            makers[maker.name] = maker
            found += self.trained(arm, setting, maker, self.training)
        own = [(setting, centroid, self.token_maker(setting, centroid)) for setting, centroid in self.token_settings()]
        for setting, centroid, maker in own:
            makers[maker.name] = maker
            found += self.trained(TOKENS, setting, maker, self.training.of_tokens(centroid.patch_size))
        for words, budget, other in self.fewer_images(own):
            makers[source.name] = source
            needs = (other.name,) if other else ()
            found += self.trained(FEWER, words, source, self.training, budget=budget, needs=needs)
        for size in self.budgets:
            for setting, centroid, maker in own:
                training, words = self.training.of_tokens(centroid.patch_size), f"{setting}, {size} bytes"
                found += self.trained(FEWER_TOKENS, words, maker, training, budget=Budget(size))
        return [*([listing] if makers else []), *makers.values(), *found]

    def token_settings(self) -> Iterator[tuple[str, CentroidSettings]]:
        """(setting, how its tokenizer is fitted)."""
        return self.tokens.settings(self.training.pixels.image_size, self.training.pixels.resize)

    def fewer_images(
        self, own: Sequence[tuple[str, CentroidSettings, Trial]]
    ) -> Iterator[tuple[str, Budget, Trial | None]]:
        """(setting, budget, the trial that tells it) of each."""
        for size in self.budgets:
            yield f"{size} bytes", Budget(size), None
        for setting, _, maker in own if not self.budgets else ():
            for encoding in self.tokens.encodings:  # each is compared with what fits into its own bytes
                budget = Budget(of=place_of(maker), encoding=encoding)
                yield f"{BYTES_OF}{TOKENS} {setting}, {encoding}", budget, maker

    def token_maker(self, setting: str, centroid: CentroidSettings) -> Trial:
        """The trial that makes tokens."""
        more = {"centroid": centroid, "encodings": self.tokens.encodings}
        return self.maker(f"{TOKENS} {setting}", "make_tokens", more)

    def listing(self) -> Trial:
        """The trial that lists the images, for all that are made of them."""
        return self.data.listing_trial(self.folder, "images", self.decided_by)

    def maker(self, what: str, function: str, arguments: dict[str, Any]) -> Trial:
        """A trial that makes what an arm stores."""
        name = trial_name(f"make {what}", {"made": what, **self.decided_by})
        run, listing = trial_folder(self.folder, name).join("store"), self.listing()
        given = {"run": run, "data": self.data, "listing": place_of(listing), **arguments}
        stage = Stage("make", f"{STAGES}:{function}", given)
        return Trial(name, {"arm": what}, (stage,), (listing.name,), PREPARED)

    def trained(
        self,
        arm: str,
        setting: str,
        maker: Trial,
        training: CurveTraining,
        *,
        budget: Budget | None = None,
        needs: tuple[str, ...] = (),
    ) -> Iterator[Trial]:
        """A trial a seed, and, of fewer images, one for each thing that is held equal."""
        for equal in self.equal if budget is not None else (WHOLE,):
            for seed in self.seeds:
                settings = {"arm": arm, "setting": setting, "equal": equal, SEED: seed}
                name = trial_name(f"{arm} {setting} {equal} s{seed}", {**settings, **self.decided_by})
                arguments = {
                    "run": trial_folder(self.folder, name),
                    "store": place_of(maker),
                    "is_tokens": arm in (TOKENS, FEWER_TOKENS),
                    "budget": budget,
                    "equal": equal,
                    "encoding": self.tokens.encodings[-1],
                    **training.arguments(seed),
                }
                stage = Stage("train", f"{STAGES}:train_arm", arguments)
                cost = LESS if equal == "epochs" else 1.0
                yield Trial(name, settings, (stage,), tuple({maker.name: None, **dict.fromkeys(needs)}), cost)


def place_of(maker: Trial) -> Folder:
    """Where a trial makes what an arm stores, or lists what these are made of."""
    return maker.stages[-1].run


def with_encodings(lines: Sequence[Line]) -> list[Line]:
    """The same lines, those of tokens once for each encoding that was counted: equal accuracy, other bytes."""
    found: list[Line] = []
    for line in lines:
        sizes = {name: value for name, value in line.figures.items() if name.startswith("bytes_")}
        if line.settings["arm"] not in (TOKENS, FEWER_TOKENS) or not sizes:
            found.append(line)
            continue
        for name, size in sizes.items():
            settings = {**line.settings, "arm": f"{line.settings['arm']}, {name.removeprefix('bytes_')}"}
            found.append(replace(line, settings=settings, figures={**line.figures, "bytes": size}))
    return found
