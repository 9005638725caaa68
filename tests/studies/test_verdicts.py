"""What is said of tokens, beside the best rival of no more bytes."""

from seit_ray.studies.lines import Line
from seit_ray.studies.storage_curve import with_encodings
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
    failed = Line({"arm": "tokens", "setting": "K 8", "equal": "both"}, (), {}, ("bad",))
    (found,) = verdicts([failed, line("AVIF", 10), line("JPEG", 50, 0.5), line("tokens", 100, 0.6)])
    assert found.rival.settings["arm"] == "JPEG"


def test_tokens_stand_once_for_each_encoding():
    lines = with_encodings(
        [line("tokens", 100, 0.6, bytes_plain=150, bytes_compact=100), line("JPEG", 9, 0.5, bytes_pixels=9)]
    )
    assert [(found.settings["arm"], found.figures["bytes"]) for found in lines] == [
        ("tokens, plain", 150),
        ("tokens, compact", 100),
        ("JPEG", 9),
    ]
