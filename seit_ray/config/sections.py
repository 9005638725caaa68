"""Groups of keys that verbs share: storage, sources, tokenizers, models, augmentation, optimisers, the loop."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

PositiveInt = Annotated[int, Field(gt=0)]
NonNegativeInt = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """A group of keys; a key it does not know is an error."""

    model_config = ConfigDict(extra="forbid", validate_default=True)


class Storage(Section):
    """How object storage is reached. What is left out comes from the usual AWS_* environment or instance role."""

    endpoint_url: str | None = Field(None, description="S3 endpoint, for servers other than AWS")
    region: str | None = Field(None, description="region of the buckets")
    access_key_id: SecretStr | None = Field(None, description="access key; better left to the environment")
    secret_access_key: SecretStr | None = Field(None, description="secret key; better left to the environment")
    session_token: SecretStr | None = Field(None, description="token of temporary credentials")
    anonymous: bool = Field(False, description="read public buckets without credentials")

    def options(self) -> dict[str, Any]:
        """Plain keyword arguments for `storage.Folder`, secrets opened."""
        return {k: v.get_secret_value() if isinstance(v, SecretStr) else v for k, v in self}


class Source(Section):
    """Where labels and pictures are in what the user points at."""

    kind: Literal["auto", "folders", "flat", "table", "parquet"] = Field(
        "auto",
        description="folder per class | no labels | CSV/Parquet of uri,label | Parquet with image bytes",
    )
    label_column: str = Field("label", description="column of the class in tables")
    uri_column: str = Field("uri", description="column of the image's address in tables")
    image_column: str = Field("image", description="column of the image's bytes in Parquet")
    split_column: str = Field("split", description="column of the split in tables, if there is one")


class Centroid(Section):
    """The centroid tokenizer: k-means of pixel patches (CCViT)."""

    image_size: PositiveInt = Field(256, description="side in pixels that images are brought to")
    patch_size: PositiveInt = Field(8, description="side in pixels of a patch; one token a patch")
    codebook_size: Annotated[int, Field(ge=2, le=65536)] = Field(1024, description="number of centroids K")
    resize: Literal["squash", "crop"] = Field(
        "squash", description="squash both sides, or scale the short side and crop the centre"
    )
    iterations: PositiveInt = Field(20, description="Lloyd iterations at most")
    sample_images: PositiveInt = Field(5000, description="images to fit on, a seeded sample")
    sample_patches: PositiveInt = Field(500_000, description="patches to fit on, a seeded sample")


class Cluster(Section):
    """Ray: which cluster, and what of it."""

    address: str | None = Field(
        None, description="ray address (auto, host:port, ray://...); RAY_ADDRESS else; a local ray if neither"
    )
    num_cpus: PositiveInt | None = Field(None, description="CPUs of a local ray; all when left out")
    object_store_mib: PositiveInt = Field(1024, description="object store of a local ray, MiB")


class Workers(Section):
    """Training workers."""

    num_workers: NonNegativeInt = Field(2, description="DDP workers; 0 trains in this process, without Ray")
    gpus_per_worker: NonNegativeFloat | None = Field(None, description="default: 1 if the cluster has GPUs")
    cpus_per_worker: PositiveInt = Field(1, description="CPUs, and torch threads, of a worker")
    max_failures: NonNegativeInt = Field(3, description="restarts after lost workers, from the last checkpoint")


class Model(Section):
    """Vision transformer of tokens; grid, K and classes come from the token dataset."""

    size: Literal["nano", "tiny", "small", "base", "large"] = Field("base", description="named size")
    width: PositiveInt | None = Field(None, description="overrides the size's width")
    depth: PositiveInt | None = Field(None, description="overrides the size's number of blocks")
    num_heads: PositiveInt | None = Field(None, description="overrides the size's heads")
    decoder_width: PositiveInt | None = Field(None, description="overrides the width of the MTM decoder")
    decoder_depth: PositiveInt | None = Field(None, description="overrides the blocks of the MTM decoder")
    decoder_num_heads: PositiveInt | None = Field(None, description="overrides the heads of the MTM decoder")
    token_dim: PositiveInt = Field(32, description="width of the learned token embedding")
    stem_kernel: PositiveInt = Field(2, description="side in tokens of a stem patch (kernel = stride)")
    dropout: Share = Field(0.1, description="dropout of the token embedding and of the MTM decoder")


class Classifier(Model):
    """The classifier's own keys beside the encoder's."""

    pool: Literal["mean", "cls"] = Field("mean", description="read-out: mean of patches, or class token")
    drop_path: Share = Field(0.1, description="stochastic depth of the last block, linear over depth")


class Masking(Section):
    """Mask ratio: one draw a step from a normal truncated to [min, max] (SeiT++); std 0 = always mu."""

    mask_ratio_min: Share = Field(0.40, description="least ratio; this share leaves the encoder")
    mask_ratio_mu: float = Field(0.45, description="mean of the untruncated normal")
    mask_ratio_std: NonNegativeFloat = Field(0.25, description="its standard deviation")
    mask_ratio_max: Share = Field(1.0, description="largest ratio")
    label_smoothing: Share = Field(0.0, description="label smoothing of the cross-entropy over codes")
    loss: Literal["ce", "bce"] = Field("ce", description="cross-entropy, or binary cross-entropy a code")


class Augment(Section):
    """What changes tokens on their way to the classifier."""

    synonym_share: Share = Field(0.0, description="each token becomes a synonym with this probability (SeiT: 0.25)")
    num_synonyms: PositiveInt = Field(5, description="nearest codes of the codebook that it picks from")


class Optimizer(Section):
    """AdamW with linear warm-up and half-cosine decay, per step."""

    lr: PositiveFloat | None = Field(None, description="peak learning rate; overrides blr")
    blr: PositiveFloat = Field(1.5e-4, description="base rate, scaled by lr_rule")
    lr_rule: Literal["linear", "sqrt"] = Field(
        "linear", description="lr = blr * global_batch_size / 256, or blr * sqrt(global_batch_size) / 8"
    )
    min_lr: NonNegativeFloat = Field(0.0, description="rate at the end")
    warmup_epochs: NonNegativeFloat = Field(40, description="epochs of linear warm-up from 0")
    weight_decay: NonNegativeFloat = Field(0.05, description="decoupled decay; none on 1-D parameters")
    betas: tuple[Share, Share] = Field((0.9, 0.95), description="AdamW betas")
    layer_decay: Annotated[float, Field(gt=0, le=1)] = Field(1.0, description="rate falls by this a layer down")
    clip_grad: PositiveFloat | None = Field(None, description="largest gradient norm; none when left out")


class FinetuneOptimizer(Optimizer):
    """AdamW as SeiT++ fine-tunes."""

    blr: PositiveFloat = Field(1e-3, description="base rate, scaled by lr_rule")
    lr_rule: Literal["linear", "sqrt"] = Field("sqrt", description=Optimizer.model_fields["lr_rule"].description)
    min_lr: NonNegativeFloat = Field(1e-6, description="rate at the end")
    warmup_epochs: NonNegativeFloat = Field(5, description="epochs of linear warm-up from 0")
    weight_decay: NonNegativeFloat = Field(0.1, description="decoupled decay; none on 1-D and positions")
    betas: tuple[Share, Share] = Field((0.9, 0.999), description="AdamW betas")
    layer_decay: Annotated[float, Field(gt=0, le=1)] = Field(0.65, description="rate falls by this a layer down")


class Loop(Section):
    """How long, in what batches, how often to look."""

    epochs: PositiveInt = Field(400, description="passes over the train split")
    global_batch_size: PositiveInt = Field(4096, description="samples a step over all workers")
    accum_steps: PositiveInt = Field(1, description="micro-batches a step")
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: bf16 on GPU, fp32 on CPU")
    compile: bool = Field(False, description="torch.compile the model")
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="exponential moving average of the weights, evaluated beside them; 0 = off"
    )
    seed: NonNegativeInt = Field(0, description="initial weights, order of samples, masks, dropout")
    log_every_steps: PositiveInt = Field(50, description="metrics leave the device this often")
    eval_every_epochs: PositiveInt = Field(1, description="evaluation on the val split")
    checkpoint_every_epochs: PositiveInt = Field(1, description="checkpoint interval")
    keep_checkpoints: PositiveInt = Field(2, description="checkpoints to keep")


class FinetuneLoop(Loop):
    """The fine-tuning of SeiT++."""

    epochs: PositiveInt = Field(100, description="passes over the train split")
    global_batch_size: PositiveInt = Field(1024, description="samples a step over all workers")


class TokenizeSettings(Section):
    """How images become a token dataset."""

    val_fraction: Share = Field(0.0, description="share held out as val where the source names no splits")
    seed: NonNegativeInt = Field(0, description="seed of the hold-out")
    slice_size: PositiveInt = Field(256, description="images in a unit of work")
    rows_per_shard: PositiveInt = Field(16384, description="rows of every shard but a split's last")
    encoding: Literal["planes", "plain"] = Field(
        "planes", description="tokens as packed byte planes, or as lists of integers"
    )
    max_reject_fraction: Share = Field(0.1, description="fail when more than this share cannot be read")
    max_image_pixels: PositiveInt = Field(178_956_970, description="larger images are rejected")
    max_image_mib: PositiveInt = Field(64, description="larger files are rejected, MiB")
    num_actors: PositiveInt | None = Field(None, description="most encoder actors; default from the cluster")
    gpus_per_actor: NonNegativeFloat | None = Field(None, description="default: 1 if the cluster has GPUs")
    batch_size: PositiveInt = Field(256, description="images an encoder call")
