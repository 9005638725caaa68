"""Train TokenAdapt (SeiT++): spatial augmentation of tokens, learnt from images and their tokenizer; once, for reuse.

seit-ray train_tokenadapt images=/data/photos tokenizer=runs/tokens/tokenizer run=adapt
"""

from dataclasses import asdict

from seit_ray.config import TrainTokenAdapt
from seit_ray.progress import Progress, silent
from seit_ray.verbs.command.image_checks import training_rows
from seit_ray.verbs.command.places import Rows, cluster_rows, folder_of, output_rows
from seit_ray.verbs.command.training import check_run, replay_rows, run_folder, train


def check(config: TrainTokenAdapt) -> Rows:
    """What would be read, and trained for which tokenizer, with which resources."""
    from seit_ray.models.tokenadapt import TokenAdapt
    from seit_ray.objectives.tokenadapt import TokenAdaptObjective
    from seit_ray.tokenizers.files import load_tokenizer

    tokenizer, about = load_tokenizer(folder_of(config.tokenizer, config.storage))
    out_grid = config.out_grid or tokenizer.grid
    TokenAdaptObjective(tokenizer=tokenizer, out_grid=out_grid, geometry=asdict(config.geometry.settings()))
    num_codes, dim = tokenizer.codebook.shape
    sizes = asdict(config.model.settings())
    model = TokenAdapt(grid=tokenizer.grid, out_grid=out_grid, num_codes=num_codes, dim=dim, **sizes)
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    images = folder_of(config.images, config.storage)
    check_run(config, "train_tokenadapt", images)
    split = {name: getattr(config, name) for name in ("val_fraction", "seed", "max_images")}
    return [
        *training_rows(images, config.source, config.loop, **split),
        ("tokenizer", f"{tokenizer.family} {about['fingerprint']}, K {num_codes}"),
        ("grids", f"{'x'.join(map(str, tokenizer.grid))} -> {'x'.join(map(str, out_grid))}"),
        ("model", f"f and g, width {config.model.width}, {millions:.2f} M parameters"),
        *output_rows(run_folder(config)),
        *cluster_rows(config.cluster, config.workers),
    ]


def train_tokenadapt(config: TrainTokenAdapt, progress: Progress = silent) -> Rows:
    """Train; returns the table to print."""
    from seit_ray.runs.tokenadapt import train_tokenadapt as run_function

    more = {
        "images": folder_of(config.images, config.storage),
        "source": config.source.settings(),
        "tokenizer": folder_of(config.tokenizer, config.storage),
        "geometry": config.geometry.settings(),
        **{name: getattr(config, name) for name in ("val_fraction", "max_images", "seed", "out_grid")},
    }
    run = run_folder(config)
    sources = [more["images"], more["tokenizer"]]
    metrics = train(config, "train_tokenadapt", run_function, more, run, progress, sources=sources)
    if config.replay:
        return replay_rows(metrics)
    rows = [("run", run.uri), ("steps", str(metrics["step"])), ("train loss", f"{metrics['train_loss']:.4f}")]
    split = "val" if "val_hit_rate" in metrics else "train"
    hits, naive = metrics[f"{split}_hit_rate"], metrics[f"{split}_naive_hit_rate"]
    rows.append((f"{split}: codes that are right", f"{hits:.2%} (augmenting the grid of codes: {naive:.2%})"))
    if split == "val":
        rows.append(("val: through pixels and encoded again", f"{metrics['val_reencoded_hit_rate']:.2%} right"))
        names = {"": "", "naive_": "codes: ", "reencoded_": "pixels: ", "bound_": "the tokenizer itself: "}
        found, *others = (f"{text}{metrics[f'val_{name}psnr_db']:.2f} dB" for name, text in names.items())
        rows.append(("val: PSNR", f"{found} ({', '.join(others)})"))
    if hits < naive:
        behind = f"after {metrics['step']} steps f and g, which start from nothing, are behind the naive way"
        rows.append(("note", f"{behind}: not yet of use; raise loop.epochs in another run"))
    return [*rows, ("next", f"augment.adapt_run={run.uri} in pretrain or finetune")]
