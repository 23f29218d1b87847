"""Identity of code and inputs. Truth: a copy of the scripts, changed line by line."""

import ast
import os
import shutil
from pathlib import Path

import pytest
from firstlight import provenance
from firstlight.provenance import code_identity, content_identity, identity

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture
def small(tmp_path):
    """A script that reaches three modules, one only through another and inside a function, and not the fourth."""
    files = {
        "light.py": '"""Adapter."""\nfrom firstlight import steps\n\nprint(steps.run(1))\n',
        "firstlight/__init__.py": "",
        "firstlight/steps.py": (
            '"""Steps."""\nfrom .deep import value\n\n\ndef run(x):\n    """Run."""\n    # why\n    return value(x)\n'
        ),
        "firstlight/deep.py": "def value(x):\n    from . import deepest, history\n\n    return x + deepest.ONE\n",
        "firstlight/deepest.py": "import numpy as np\n\nONE = np.float32(1)\n",
        "firstlight/other.py": "ONE = 1\n",
        "firstlight/history.py": "WORD = 'one'\n",
    }
    (tmp_path / "firstlight").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def changed(folder, name, old, new):
    """Whether the identity of light.py changes where `old` becomes `new` in a file."""
    before = code_identity(folder / "light.py")
    path = folder / name
    stamp = path.stat().st_mtime_ns
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
    os.utime(path, ns=(stamp + 10**9, stamp + 10**9))
    return code_identity(folder / "light.py") != before


@pytest.mark.parametrize(
    "name, old, new",
    [
        ("light.py", "run(1)", "run(2)"),
        ("firstlight/steps.py", "return value(x)", "return value(x + 1)"),
        ("firstlight/deep.py", "x + deepest", "x - deepest"),
        ("firstlight/deepest.py", "float32(1)", "float32(2)"),
        ("firstlight/deepest.py", "np.float32", "np.float64"),
    ],
)
def test_a_line_in_what_is_reached_changes_the_identity(small, name, old, new):
    assert changed(small, name, old, new)


@pytest.mark.parametrize(
    "name, old, new",
    [
        ("light.py", '"""Adapter."""', '"""Other words."""'),
        ("firstlight/steps.py", "# why", "# why not"),
        ("firstlight/steps.py", '    """Run."""\n', '    """Walk,\n\n    or run."""\n'),
        ("firstlight/steps.py", "return value(x)", "return value(\n        x,\n    )"),
        ("firstlight/steps.py", '    """Run."""\n', ""),
        ("firstlight/deep.py", "x + deepest.ONE", "(x + deepest.ONE)"),
    ],
)
def test_comments_docstrings_and_layout_do_not_count(small, name, old, new):
    assert not changed(small, name, old, new)


def test_a_line_in_what_is_not_reached_does_not_count(small):
    assert not changed(small, "firstlight/other.py", "1", "2")


def test_a_module_that_becomes_reached_counts(small):
    assert changed(small, "firstlight/deepest.py", "np.float32(1)", "__import__('x')")
    assert changed(small, "firstlight/deepest.py", "import numpy as np", "import numpy as np\nfrom . import other")
    assert changed(small, "firstlight/other.py", "1", "2")


def test_a_touch_does_not_count(small):
    before = code_identity(small / "light.py")
    for path in small.rglob("*.py"):
        os.utime(path)
    assert code_identity(small / "light.py") == before


def test_a_copy_elsewhere_has_the_same_identity(small, tmp_path):
    before = code_identity(small / "light.py")
    copy = tmp_path / "moved" / "scripts"
    shutil.copytree(small, copy, ignore=shutil.ignore_patterns("moved"))
    assert code_identity(copy / "light.py") == before


def test_another_python_gives_the_same_identity():
    """Written out, since each Python has fields and a form of `ast.dump` of its own."""
    tree = ast.parse("def f(x, *, y=None):\n    return {**x, 'a': f'{y:>3}'}\n")
    assert provenance._plain(tree) == (
        "Module(body=[FunctionDef(name='f',args=arguments(args=[arg(arg='x')],kwonlyargs=[arg(arg='y')],"
        "kw_defaults=[Constant()]),body=[Return(value=Dict(keys=[None,Constant(value='a')],"
        "values=[Name(id='x',ctx=Load()),JoinedStr(values=[FormattedValue(value=Name(id='y',ctx=Load()),"
        "conversion=-1,format_spec=JoinedStr(values=[Constant(value='>3')]))])]))])])"
    )


def test_the_identity_is_taken_from_that_form(small, monkeypatch):
    monkeypatch.setattr(ast, "dump", lambda *args, **options: pytest.fail("this form differs between Pythons"))
    code_identity(small / "light.py")


# What is kept beside the bytecode
@pytest.fixture
def kept(small, monkeypatch):
    """The file in which it is kept, after a first run that may write bytecode."""
    monkeypatch.setattr(provenance.sys, "dont_write_bytecode", False)
    code_identity(small / "light.py")
    return small / provenance.KEPT


def in_another_run(folder):
    provenance._told.cache_clear()
    return code_identity(folder / "light.py")


def test_another_run_reads_no_module_that_is_as_it_was(small, kept, monkeypatch):
    before = code_identity(small / "light.py")
    monkeypatch.setattr(provenance, "_read", lambda path: pytest.fail(f"{path} is read again"))
    assert in_another_run(small) == before


def test_another_run_sees_a_line_that_changed(small, kept):
    before = code_identity(small / "light.py")
    (small / "firstlight" / "deep.py").write_text("def value(x):\n    return x\n")
    assert in_another_run(small) != before


def test_another_run_sees_a_module_that_came_to_be(small, kept):
    (small / "firstlight" / "steps.py").write_text("from . import later\n")
    before = in_another_run(small)
    (small / "firstlight" / "later.py").write_text("ONE = 1\n")
    assert in_another_run(small) != before


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"by": "another version", "modules": {"light.py": [[1, 2], "x", [], []]}}']
)
def test_what_was_kept_by_another_version_or_is_damaged_is_made_anew(small, kept, text):
    before, whole = code_identity(small / "light.py"), kept.read_text()
    kept.write_text(text)
    assert in_another_run(small) == before and kept.read_text() == whole


def test_nothing_is_kept_where_no_bytecode_is(small, monkeypatch):
    monkeypatch.setattr(provenance.sys, "dont_write_bytecode", True)
    code_identity(small / "light.py")
    assert not (small / provenance.KEPT).exists()


def versions(monkeypatch, **numbers):
    monkeypatch.setattr(provenance, "installed", lambda name: numbers.get(name, "1.0"))


def test_an_upgrade_of_a_library_that_is_used_counts(small, monkeypatch):
    versions(monkeypatch)
    before = code_identity(small / "light.py")
    versions(monkeypatch, numpy="9.9")
    assert code_identity(small / "light.py") != before


def test_an_upgrade_of_a_library_that_is_not_used_does_not_count(small, monkeypatch):
    versions(monkeypatch)
    before = code_identity(small / "light.py")
    versions(monkeypatch, reproject="9.9")
    assert code_identity(small / "light.py") == before


@pytest.mark.parametrize("library", [name for name in provenance.NUMERIC if name != "ccdproc"])
def test_every_library_that_makes_numbers_is_found_with_its_version(library):
    assert provenance.installed(library)[0].isdigit()


@pytest.mark.parametrize("distribution", ["opencv-python", "opencv-contrib-python"])
def test_opencv_is_known_by_whichever_of_its_names_it_was_installed(distribution, monkeypatch):
    def version(name):
        if name != distribution:
            raise provenance.metadata.PackageNotFoundError(name)
        return "5.0"

    monkeypatch.setattr(provenance.metadata, "version", version)
    assert provenance.installed.__wrapped__("cv2") == "5.0"
    assert provenance.installed.__wrapped__("numpy") == "absent"


# --- The project's own scripts --------------------------------------------------------------------------------------
@pytest.fixture
def project(tmp_path):
    return Path(shutil.copytree(SCRIPTS, tmp_path / "scripts", ignore=shutil.ignore_patterns("__pycache__")))


def affected(project, module):
    """The scripts whose identity changes with a line in a module."""
    before = {path.stem: code_identity(path) for path in project.glob("*.py")}
    path = project / "firstlight" / f"{module}.py"
    stamp = path.stat().st_mtime_ns + 10**9
    path.write_text(path.read_text() + "\n_A_NEW_LINE = 1\n")
    os.utime(path, ns=(stamp, stamp))
    return {path.stem for path in project.glob("*.py") if code_identity(path) != before[path.stem]}


def test_a_line_in_combine_makes_stacks_anew_and_nothing_else(project):
    assert affected(project, "combine") == {"combine"}


def test_a_line_in_solve_makes_lights_anew_and_no_masters(project):
    done = affected(project, "solve")
    assert "light" in done and not done & {"master_bias", "master_dark", "master_flat", "picture"}


def test_a_line_in_calibrate_makes_masters_and_lights_anew_and_no_catalogue(project):
    done = affected(project, "calibrate")
    assert {"light", "master_bias", "master_dark", "master_flat"} <= done and "catalogue" not in done


def test_a_line_in_picture_makes_pictures_anew_and_nothing_else(project):
    assert affected(project, "picture") == {"picture", "preview"}


# --- Inputs ---------------------------------------------------------------------------------------------------------
def test_an_identity_depends_on_values_and_their_order_and_their_borders():
    assert identity("a", 1) == identity("a", "1")
    assert len({identity("a", "b"), identity("b", "a"), identity("ab"), identity("ab", ""), identity()}) == 5


def test_a_file_is_known_by_its_bytes_not_by_its_name(tmp_path):
    for name, text in (("a", "ra,dec"), ("b", "ra,dec"), ("c", "ra,DEC")):
        (tmp_path / name).write_text(text)
    a, b, c = (content_identity(tmp_path / name) for name in "abc")
    assert a == b != c


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match="stars.csv cannot be read: No such file"):
        content_identity(tmp_path / "stars.csv")


def test_what_only_writes_words_into_headers_does_not_count(small):
    assert not changed(small, "firstlight/history.py", "one", "two")
