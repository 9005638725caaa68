"""What the verb says of a run."""

from seit_ray.verbs.pretrain import probe_rows

PROBED = {
    "probe_linear_top1": 0.625,
    "probe_linear_ridge": 0.01,
    "probe_linear_epochs": 50,
    "probe_knn_top1": 0.5,
    "probe_knn_k": 20,
    "probe_knn_temperature": 0.07,
    "probe_train_samples": 96,
    "probe_val_samples": 48,
    "probe_rankme": 12.34,
    "probe_rankme_samples": 100,
}


def test_each_figure_of_a_probe_stands_beside_its_settings():
    assert dict(probe_rows(PROBED)) == {
        "linear probe, top-1": "62.50% (ridge 0.01, 50 epochs at most, 96 rows fitted, 48 scored)",
        "knn probe, top-1": "50.00% (k 20, temperature 0.07, 96 rows fitted, 48 scored)",
        "RankMe": "12.3 (100 rows)",
    }
    assert dict(probe_rows({"probe_rankme": 3.0, "probe_rankme_samples": 5})) == {"RankMe": "3.0 (5 rows)"}
    assert probe_rows({"train_loss": 1.0}) == []
