"""CCViT's corruption and losses against the recordings of the published code."""

import pytest
import torch

from seit_ray.objectives.ccvit import LOSSES, CentroidObjective, Seen
from seit_ray.tokenizers.centroid import CentroidTokenizer
from tests.models.test_ccvit_golden import patch_of, positions_of, recorded_model
from tests.recordings import Recording


@pytest.fixture(scope="module")
def record():
    return Recording("ccvit")


def objective_of(record, loss):
    side = record.pixels("in/images").shape[3]
    tokenizer = CentroidTokenizer(record["in/centroids"], image_size=side, patch_size=patch_of(record))
    masked = int(record["in/bool_masked_pos"][0].sum())
    replaced = int(record["in/bool_replaced_pos"][0].sum())
    return CentroidObjective(
        tokenizer=tokenizer, grid=tokenizer.grid, loss=loss, num_masked=masked, num_replaced=replaced
    )


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_equal_the_golden_recording(record, loss):
    objective = objective_of(record, loss)
    objective.codebook = objective.codebook.double()
    model = recorded_model(record, shared_head=loss != "dual")
    images = record.pixels("in/images")
    ids = objective.tokenizer.encode((images * 255).round().byte())
    assert torch.equal(ids, record["out/assign/ids"].long())
    seen = Seen(ids, images, images)
    masked, replaced = (record[f"in/bool_{name}_pos"].bool().flatten(1) for name in ("masked", "replaced"))
    maps = objective.maps(model, record.pixels("in/samples"), ids, replaced)
    record.same("out/model_input", maps, atol=1e-5, rtol=0)
    if loss == "two_ce_soft_shared":
        positions = torch.arange(masked.shape[1]).expand(len(masked), -1)
    else:
        positions = positions_of(record)
    first, second, _ = model(maps, masked, positions)
    loss_1, loss_2, metrics = objective.losses(first, second, seen, positions)
    assert loss_1.item() == pytest.approx(record[f"f64/{loss}/loss_1"].item(), rel=2e-6)
    assert loss_2.item() == pytest.approx(record[f"f64/{loss}/loss_2"].item(), rel=2e-6)
    if loss != "two_ce_soft_shared":
        recorded = record[f"f64/{loss}/mlm_acc_1"].item()
        assert metrics["masked_accuracy"].item() == pytest.approx(recorded, abs=1e-6)
        codes = objective.at(ids.unsqueeze(2), positions).flatten()
        assert torch.equal(codes, record["out/labels_at_loss_positions"].long())
    if loss == "dual":
        targets = objective.pixel_targets(seen, positions).flatten(0, 1)
        record.same("out/pixel_targets_at_loss_positions", targets, atol=1e-4, rtol=1e-4)
    (loss_1 + loss_2).backward()
    for key in record.keys(f"gradnorm/{loss}/"):
        norm = record[key].item()
        if norm >= 0:
            found = dict(model.named_parameters())[key.split("/", 2)[2]].grad.norm().item()
            assert found == pytest.approx(norm, rel=1e-4)
