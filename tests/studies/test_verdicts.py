"""What is said of tokens, beside the best rival of no more bytes."""

from seit_ray.studies.lines import Line
from seit_ray.studies.storage_curve import with_encodings
from seit_ray.studies.storage_report import with_known_bytes
from seit_ray.studies.trials import Outcome
from seit_ray.studies.verdicts import verdicts


def line(arm, num_bytes, *values, setting="all", equal="both", **figures):
    known = {"bytes": num_bytes, "test_images": 10_000, **figures}
    return Line({"arm": arm, "setting": setting, "equal": equal}, values, known)


def test_tokens_win_lose_or_cannot_be_told_from_the_best_rival_that_fits():
    rivals = [line("JPEG", 900, 0.60, 0.60), line("AVIF", 1000, 0.70, 0.70), line("images as they are", 9000, 0.9, 0.9)]
    for value, outcome in ((0.75, "wins"), (0.65, "loses"), (0.705, "draws")):
        (found,) = verdicts([*rivals, line("tokens, compact", 1000, value, value)])
        assert (found.outcome, found.rival) == (outcome, rivals[1])  # not the best of all, which is larger
        assert "against AVIF, all (1 kB, 70.0 %)" in found.words
    assert verdicts([*rivals, line("tokens, compact", 1000, 0.75, 0.75)])[0].words.startswith(
        "tokens, compact, all (1 kB, 75.0 %): tokens win by 5.0 +- 0.6 points"
    )


def test_an_error_over_seeds_can_make_a_difference_nothing():
    rivals = [line("JPEG", 900, 0.70, 0.70)]
    (found,) = verdicts([*rivals, line("tokens", 1000, 0.60, 0.90)])
    assert found.outcome == "draws"
    assert "no difference that the errors let through: 5.0 +- 15.0 points" in found.words


def test_tokens_that_are_smaller_than_all_stand_alone():
    (found,) = verdicts([line("JPEG", 900, 0.7), line("tokens", 100, 0.6)])
    assert (found.outcome, found.rival) == ("alone", None)
    assert found.words.endswith("no rival is so small; the smallest, JPEG, all, takes 900 B")
    assert verdicts([line("tokens", 100, 0.6)])[0].words.endswith("no rival is so small")


def test_what_failed_is_no_rival_and_no_token_arm():
    (found,) = verdicts([failed("tokens"), line("AVIF", 10), line("JPEG", 50, 0.5), line("tokens", 100, 0.6)])
    assert found.rival.settings["arm"] == "JPEG"


def failed(arm, setting="all", **figures):
    return Line({"arm": arm, "setting": setting, "equal": "both"}, (), figures, ("bad",))


def test_a_rival_that_failed_leaves_open_what_it_may_have_won():
    tokens, jpeg = line("tokens", 100, 0.8, 0.8), line("JPEG", 50, 0.5, 0.5)
    (found,) = verdicts([tokens, jpeg, failed("fewer images"), failed("AVIF", bytes=90)])
    assert (found.outcome, found.rival) == ("open", jpeg)
    assert found.words.endswith("points against JPEG, all (50 B, 50.0 %); fewer images, all, AVIF, all failed")
    (found,) = verdicts([tokens, line("JPEG", 900, 0.7, 0.7), failed("AVIF")])
    assert (found.outcome, found.rival) == ("open", None)
    assert "no rival that was measured is so small" in found.words
    (found,) = verdicts([tokens, jpeg, failed("AVIF", bytes=101)])  # too large to be one
    assert found.outcome == "wins"
    (found,) = verdicts([tokens, line("WebP", 50, 0.9, 0.9), failed("AVIF")])  # which can only be better still
    assert found.outcome == "loses"


def test_one_seed_decides_nothing():
    for ours, theirs in ((0.6, 0.9), (0.9, 0.6)):
        (found,) = verdicts([line("JPEG", 50, theirs), line("tokens", 100, ours, ours)])
        assert found.outcome == "open"
        assert "of a single seed, which does not tell how seeds differ, a difference of" in found.words


def test_few_seeds_need_a_larger_difference():
    """Of three seeds a side, 95 % are 2.78 standard errors."""
    jpeg = line("JPEG", 50, 0.50, 0.53, 0.56, test_images=10**9)
    for gap, outcome in ((0.065, "draws"), (0.070, "wins")):  # 2.65 and 2.86 of 0.0245
        shifted = line("tokens", 100, *(value + gap for value in jpeg.values), test_images=10**9)
        assert verdicts([jpeg, shifted])[0].outcome == outcome


def test_what_a_failed_rival_would_have_taken_is_known_from_what_was_made():
    made = [Outcome("m", {"arm": "tokens K 8, 4x4"}, "finished", figures={"bytes_plain": 150, "bytes_compact": 100})]
    made += [Outcome("j", {"arm": "JPEG quality 5"}, "finished", figures={"bytes": 60})]
    lines = [
        failed("fewer images", "bytes of tokens K 8, 4x4, plain"),
        failed("fewer images", "9000 bytes"),
        failed("JPEG", "quality 5"),
        failed("AVIF", "quality 5"),
    ]
    assert [found.figures.get("bytes") for found in with_known_bytes(lines, made)] == [150, 9000, 60, None]


def test_tokens_stand_once_for_each_encoding():
    lines = with_encodings(
        [line("tokens", 100, 0.6, bytes_plain=150, bytes_compact=100), line("JPEG", 9, 0.5, bytes_pixels=9)]
    )
    assert [(found.settings["arm"], found.figures["bytes"]) for found in lines] == [
        ("tokens, plain", 150),
        ("tokens, compact", 100),
        ("JPEG", 9),
    ]
