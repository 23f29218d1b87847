"""A simulated night through seiza, as its guide has it: masters, calibration, registration, one stack per filter.

    python tests/by_seiza.py RAW OUT FILTERS

Defaults throughout. Without darks seiza learns hot and dead pixels from the lights, and repairs them.
"""

import sys
from pathlib import Path

import seiza


def main(raw: Path, out: Path, filters: str) -> None:
    """Stacks OUT/R.fits ... of the filters R,V,..., and the masters beside them."""
    bias = str(out / "bias.fits")
    seiza.build_bias(_files(raw, "Bias_*"), bias)
    for name in filters.split(","):
        flat = str(out / f"flat_{name}.fits")
        seiza.build_flat(_files(raw, f"Flat_{name}_*"), flat, bias=bias)
        seiza.stack_fits(_files(raw, f"Light_{name}_*"), str(out / f"{name}.fits"), bias=bias, flat=flat)


def _files(raw: Path, pattern: str) -> list[str]:
    return sorted(map(str, raw.glob(pattern)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
