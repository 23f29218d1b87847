"""A simulated night through Siril: its own script for monochrome lights, and folders of links to the raw frames."""

from pathlib import Path

HEAD = """requires 1.0.0
set32bits
setext fit
cd biases
convert bias -out=../process
cd ../process
stack bias rej w 3 3 -nonorm -out=bias_stacked
"""

FILTER = """cd ../flats_{name}
convert flat_{name} -out=../process
cd ../process
preprocess flat_{name} -bias=bias_stacked
stack pp_flat_{name} rej w 3 3 -norm=mul -out=flat_stacked_{name}
cd ../lights_{name}
convert light_{name} -out=../process
cd ../process
preprocess light_{name} -bias=bias_stacked -flat=flat_stacked_{name}
register pp_light_{name}
stack r_pp_light_{name} rej w 3 3 -norm=addscale -out=../{name}
"""


def prepare(raw: Path, out: Path, filters: list[str]) -> Path:
    """The script, OUT/script.ssf, that makes OUT/R.fit ...; nothing is copied. To be run as siril-cli -d OUT -s SCRIPT."""
    folders = {"biases": "Bias_*"}
    for name in filters:
        folders |= {f"flats_{name}": f"Flat_{name}_*", f"lights_{name}": f"Light_{name}_*"}
    for folder, pattern in folders.items():
        (out / folder).mkdir(parents=True)
        for file in raw.glob(pattern):
            (out / folder / file.name).symlink_to(file.resolve())
    (out / "process").mkdir()
    script = out / "script.ssf"
    script.write_text(HEAD + "".join(FILTER.format(name=name) for name in filters))
    return script
