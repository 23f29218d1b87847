"""The ruler that compares programs, on images whose differences are known."""

import numpy as np
import peers
import pytest
import ruler
import scenes
from scenes import View


@pytest.fixture(scope="module")
def measured():
    """Rows of a light, and of one with 1.3 times its light, twice its noise, wider stars, a few pixels off."""
    sky = scenes.a_sky(extent=1100.0, step=70.0, brightest=2e4, faintest=10.0)
    one = scenes.electrons(View("one"), sky)
    other = scenes.electrons(View("other", seeing=6.6, pointing=(9.0, -7.0)), sky)
    rng = np.random.default_rng(2)
    first = (one + rng.normal(0, 10, one.shape)).astype(np.float32)
    second = (1.3 * (other + rng.normal(0, 20, one.shape))).astype(np.float32)
    return ruler.rows([first, second], np.ones(one.shape, bool), np.zeros(one.shape, bool), 3.0)


def test_flux_scale_is_found(measured):
    assert measured[1]["scale"] == pytest.approx(1.3, rel=0.01)


def test_noise_is_told_on_the_same_scale(measured):
    assert measured[0]["noise"] * ruler.BLOCK == pytest.approx(10, rel=0.1)
    assert measured[1]["noise"] / measured[0]["noise"] == pytest.approx(2, rel=0.1)


def test_wider_stars_are_wider(measured):
    assert measured[1]["fwhm"] / measured[0]["fwhm"] == pytest.approx(1.09, abs=0.03)


def test_faint_stars_stand_out_half_as_far_in_twice_the_noise(measured):
    assert measured[0]["snr"] / measured[1]["snr"] == pytest.approx(2, rel=0.2)


def test_what_is_not_installed_has_a_row_that_says_so(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(peers.shutil, "which", lambda name: None)
    peers.print_table([peers.by_siril([], tmp_path, tmp_path, "")], [])
    assert "| Siril | siril-cli is not installed | - |" in capsys.readouterr().out
