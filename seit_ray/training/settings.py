"""The numbers of a training loop and of its optimizer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from seit_ray.training.schedule import peak_lr, rate_at
from seit_ray.training.trackers import check_trackers

if TYPE_CHECKING:
    import torch

MOST_BETWEEN = 5  # epochs from one evaluation to the next on a GPU, where nobody says how many
LEAST_EVALUATIONS = 20  # of such a training
PRECISIONS = ("auto", "fp32", "bf16")
OPTIMIZERS = ("adamw", "muon")


@dataclass(frozen=True)
class LoopSettings:
    """How long, in what batches, how often to look; fields as in `config.Loop`.

    memory_gib is for whoever opens the split (`batches.open_split`). Trackers whose package is missing are a
    ValueError.
    """

    epochs: float
    global_batch_size: int
    accum_steps: int = 1
    max_micro_batch: int | None = None
    precision: str = "auto"
    tf32: bool = True
    compile: bool | None = None
    ema_decay: float = 0.0
    seed: int = 0
    max_skipped_steps: int = 10
    log_every_steps: int = 50
    eval_every_epochs: int | None = None
    checkpoint_every_epochs: int = 1
    checkpoint_every_steps: int | None = None
    checkpoint_every_minutes: float | None = None
    keep_checkpoints: int = 2
    keep_best: str | None = None
    memory_gib: float | None = None
    trackers: tuple[str, ...] = ("tensorboard",)

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision {self.precision!r}; expected one of {', '.join(PRECISIONS)}; choose one")
        check_trackers(self.trackers)

    def check_workers(self, num: int) -> None:
        """ValueError where a step has not a sample for each worker."""
        if self.global_batch_size < num:
            raise ValueError(
                f"global_batch_size {self.global_batch_size} for {num} workers; expected a sample for each at least; "
                "raise it or lower workers.num_workers"
            )

    def precision_on(self, device: torch.device) -> str:
        """The precision of most products there: bf16, tf32 or fp32. On a GPU, says so to torch for this process.

        auto is bf16 where the chip has it (not a V100 or T4, which would pretend).
        """
        if self.precision == "bf16":
            return "bf16"
        if device.type != "cuda":
            return "fp32"
        import torch  # takes seconds, and a dry run reads these numbers too

        if self.precision == "auto" and torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16"
        torch.set_float32_matmul_precision("high" if self.tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = self.tf32  # convolutions have a switch of their own, which is on
        return "tf32" if self.tf32 else "fp32"

    def eval_interval(self, device: torch.device) -> int:
        """Epochs from one evaluation to the next: as set, else each epoch, and on a GPU fewer in a long training.

        There an epoch may take seconds, and so does an evaluation; where the best weights are kept, none is left out.
        """
        if self.eval_every_epochs is not None:
            return self.eval_every_epochs
        if device.type != "cuda" or self.keep_best is not None:
            return 1
        return max(1, min(MOST_BETWEEN, int(self.epochs // LEAST_EVALUATIONS)))

    def ends_epochs(self, done: int, every: int, num_samples: int, since: int | None = None) -> bool:
        """Whether step number `done`, or one behind step `since`, ends so many epochs, or a multiple of them."""
        interval, before = every * num_samples, done - 1 if since is None else since
        return done * self.global_batch_size // interval > before * self.global_batch_size // interval

    def evaluated_before(self, done: int, num_samples: int, device: torch.device) -> int:
        """The step of the last evaluation before step `done`, 0 for none."""
        interval = self.eval_interval(device) * num_samples
        over = (done - 1) * self.global_batch_size // interval * interval  # samples of whole intervals
        return -(-over // self.global_batch_size)


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """The optimizer, its groups of parameters and its rate over the epochs; fields as in `config.Optimizer`."""

    name: str = "adamw"
    lr: float | None = None
    blr: float = 1.5e-4
    lr_rule: str = "linear"
    schedule: str = "warmup_cosine"
    min_lr: float = 0.0
    warmup_epochs: float = 40.0
    warmup_lr: float = 0.0
    weight_decay: float = 0.05
    decay_positions: bool = True
    betas: tuple[float, float] = (0.9, 0.95)
    layer_decay: float = 1.0
    token_emb_last: bool = False
    clip_grad: float | None = None

    def __post_init__(self) -> None:
        if self.name not in OPTIMIZERS:
            raise ValueError(f"optimizer.name {self.name!r}; expected one of {', '.join(OPTIMIZERS)}; choose one")

    def check_schedule(self, epochs: float, global_batch_size: int) -> None:
        """ValueError where the warm-up would not end before the training does, or the rate would end above its peak."""
        if self.warmup_epochs >= epochs:
            raise ValueError(
                f"optimizer.warmup_epochs {self.warmup_epochs:g} of loop.epochs {epochs:g}; expected a warm-up that "
                "ends before the training; lower it, or raise loop.epochs"
            )
        peak = self.peak(global_batch_size)
        for name in ("min_lr", "warmup_lr") if self.warmup_epochs else ("min_lr",):
            if getattr(self, name) > peak:
                raise ValueError(
                    f"optimizer.{name} {getattr(self, name):g} above the peak rate {peak:g}; expected that much at "
                    f"most; lower it, or raise optimizer.{'lr' if self.lr is not None else 'blr'}"
                )

    def peak(self, global_batch_size: int) -> float:
        """The rate after warm-up."""
        return peak_lr(lr=self.lr, blr=self.blr, lr_rule=self.lr_rule, global_batch_size=global_batch_size)

    def rate(self, epoch: float, *, peak: float, epochs: float) -> float:
        """The rate at a fractional epoch of so many."""
        return rate_at(
            epoch,
            schedule=self.schedule,
            peak=peak,
            epochs=epochs,
            min_lr=self.min_lr,
            warmup_epochs=self.warmup_epochs,
            warmup_lr=self.warmup_lr,
        )
