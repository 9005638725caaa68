"""Shares in words."""

from seit_ray.report.shares import share, with_error


def test_a_share_has_its_standard_error_if_there_is_one():
    assert with_error(0.5, 0.0125) == "50.00% +- 1.25%"
    assert with_error(1.0, None) == "100.00%"
    assert (share(0.25), share(None)) == ("25.00%", "-")
