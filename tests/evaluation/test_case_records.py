"""Records of finished parts: what stands is kept, what is damaged or of another plan is not."""

import pytest

from seit_ray.evaluation.case_records import CaseRecords
from seit_ray.storage import Folder
from tests.tiny_images import contents

PLAN = {"cases": [["fog", 1]], "listing": "abc"}


def test_what_stands_is_found_again(tmp_path):
    records = CaseRecords(Folder(tmp_path / "work"))
    assert records.begin(PLAN) == {}
    records.write(3, {"samples": 5, "loss": 0.1 + 0.2})
    records.write(0, {"samples": 2})
    assert records.begin(dict(reversed(PLAN.items()))) == {0: {"samples": 2}, 3: {"samples": 5, "loss": 0.1 + 0.2}}


def test_a_damaged_record_is_made_again(tmp_path):
    records = CaseRecords(Folder(tmp_path / "work"))
    records.begin(PLAN)
    for index in range(2):
        records.write(index, {"samples": 5})
    data = records.work.read("parts/000001.json")
    records.work.write("parts/000001.json", data.replace(b"5", b"6"))
    assert records.begin(PLAN) == {0: {"samples": 5}}


def test_those_of_another_plan_are_removed(tmp_path):
    records = CaseRecords(Folder(tmp_path / "work"))
    records.begin(PLAN)
    records.write(0, {"samples": 5})
    assert records.begin({**PLAN, "listing": "abd"}) == {}
    assert records.begin({**PLAN, "listing": "abd"}) == {}
    assert list(contents(records.work)) == ["plan.json"]


def test_a_folder_that_is_not_ours_is_left_alone(tmp_path):
    folder = Folder(tmp_path / "work")
    folder.write("parts/mine.txt", b"x")
    with pytest.raises(ValueError, match="which this program did not write"):
        CaseRecords(folder).begin(PLAN)
    CaseRecords(folder).end()
    assert list(contents(folder)) == ["parts/mine.txt"]


def test_the_end_leaves_nothing(tmp_path):
    records = CaseRecords(Folder(tmp_path / "work"))
    records.begin(PLAN)
    records.write(0, {})
    records.end()
    assert not (tmp_path / "work").exists()
    records.end()
