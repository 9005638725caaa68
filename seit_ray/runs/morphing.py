"""What token morphing compares with in a run: from its settings and folders to the callable of an objective."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from seit_ray.batches.paired import PairedStore, check_same_rows
from seit_ray.batches.stream import open_split
from seit_ray.models.about import TARGETS, read_about
from seit_ray.models.about_timm import check_teacher
from seit_ray.models.exports import import_model
from seit_ray.models.published import published_state
from seit_ray.models.starts import check_patches
from seit_ray.models.teacher import Teacher, build_teacher
from seit_ray.objectives.morph_loss import Morphing
from seit_ray.objectives.morph_targets import AverageTarget, CodebookTarget, FrozenTarget, StreamTarget, Target
from seit_ray.runs.inputs import Inputs, TokenInputs
from seit_ray.runs.method_checks import check_dtm
from seit_ray.runs.method_settings import DtmSettings
from seit_ray.runs.morph_sources import MorphSources
from seit_ray.shards.dataset import TokenDataset
from seit_ray.storage import Folder
from seit_ray.storage.torch_file import read_torch
from seit_ray.tokenizers.files import load_tokenizer
from seit_ray.training.identity import check_same
from seit_ray.training.settings import LoopSettings
from seit_ray.training.world import World


@dataclass(frozen=True)
class Reads:
    """How a run sees the data: patches, codes a side of one, width, codebook, and whether its model reads tokens."""

    objective: str
    patch_grid: tuple[int, int]
    unit: int
    width: int
    codebook: Tensor | None
    tokens: bool


def morphing_of(
    dtm: DtmSettings, sources: MorphSources, reads: Reads, inputs: Inputs, loop: LoopSettings, world: World
) -> Morphing:
    """The morphing of a run; ValueError for what does not fit the model or the data."""
    kind = check_dtm(
        dtm,
        objective=reads.objective,
        on_tokens=reads.tokens,
        has_codebook=reads.codebook is not None,
        ema_decay=loop.ema_decay,
        has_run=sources.run is not None,
        has_dataset=sources.dataset is not None,
        has_weights=sources.weights is not None,
    )
    target = target_of(kind, dtm, sources, reads, inputs, world)
    stream = target.grid[0] * target.grid[1] if isinstance(target, StreamTarget) else 0
    return Morphing(
        target,
        patch_grid=reads.patch_grid,
        unit=reads.unit,
        weight=1.0 if dtm.weight is None else dtm.weight,
        kind=dtm.loss,
        on=dtm.on,
        levels=dtm.levels,
        max_removed=dtm.max_removed,
        max_iterations=dtm.max_iterations,
        split=dtm.split,
        protect=dtm.protect,
        distance=dtm.distance,
        normalize_target=dtm.normalize_target,
        label_share=dtm.label_share,
        stream_tokens=stream,
    )


def target_of(
    kind: str,
    dtm: DtmSettings,
    sources: MorphSources,
    reads: Reads,
    inputs: Inputs,
    world: World,
) -> Target:
    """The target of a kind that `check_dtm` has let pass, on this rank's device."""
    if kind == "average":
        return AverageTarget(reads.width)
    if kind == "codebook":
        assert reads.codebook is not None
        return CodebookTarget(reads.codebook.to(world.device), reads.unit**2)
    if kind == "run":
        assert sources.run is not None
        return run_target(sources.run, reads, inputs, world)
    if kind == "stream":
        assert sources.dataset is not None
        tokenizer, _ = load_tokenizer(sources.dataset.join("tokenizer"))
        return StreamTarget(tokenizer.codebook.to(world.device), tokenizer.grid, reads.patch_grid)
    teacher = teacher_of(dtm.teacher or "", sources, reads.patch_grid)
    return FrozenTarget(teacher.to(world.device), teacher.dim)


def teacher_of(name: str, sources: MorphSources, patch_grid: tuple[int, int]) -> Teacher:
    """The teacher of a name, with its weights, in the sizes that stand beside them."""
    assert sources.weights is not None  # `check_dtm` has asked
    how = check_teacher(name, sources.weights, sources.weights_file, patch_grid)
    state = published_state(read_torch(sources.weights.read(sources.weights_file)))
    return build_teacher(name, state, patch_grid, scaling=how.scaling, **how.arguments)


def run_target(run: Folder, reads: Reads, inputs: Inputs, world: World) -> FrozenTarget:
    """A finished run on the same tokens, with as many patches."""
    about = read_about(run, *TARGETS)
    check_same(about, inputs.identity, run.uri)
    check_patches(about, inputs.grid, reads.patch_grid, run.uri)
    model, _ = import_model(run, about["kind"])
    return FrozenTarget(model.to(world.device), model.cls_token.shape[-1])


def with_stream(inputs: TokenInputs, dtm: DtmSettings, sources: MorphSources, loop: LoopSettings) -> TokenInputs:
    """The inputs, with the tokens of a second dataset behind every row of train where morphing compares with them."""
    if dtm.target != "stream" or sources.dataset is None:
        return inputs
    if inputs.grid != inputs.dataset.info.grid:
        raise ValueError(
            "dtm.target stream with model.grid_side; expected whole grids, which lie on each other; leave it out"
        )
    second = TokenDataset(sources.dataset)
    check_same_rows(inputs.dataset, second, "train")
    other = open_split(second, "train", need_labels=False, memory_gib=loop.memory_gib)
    identity = {**inputs.identity, "target_tokenizer": second.info.tokenizer}
    return replace(inputs, train=PairedStore(inputs.train, other), identity=identity)  # type: ignore[arg-type]


def check_alignment(dtm: DtmSettings, moves: bool) -> None:
    """ValueError when augmentation moves tokens away from those of the second stream."""
    if dtm.target == "stream" and moves:
        raise ValueError(
            "dtm.target stream with augmentation that moves tokens; expected none, since the second stream stays; "
            "leave augment.random_crop, swap_prob and adapt off"
        )
