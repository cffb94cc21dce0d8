"""What a user installs: the wheel's content, and the commands from another folder.

The packages are built and installed without a network: the build uses this environment's hatchling,
and the fresh environments see this environment's libraries through a path file, but no
editable sparseft of it (path files inside such a folder are not followed).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

# One worker builds and installs once for all of them.
pytestmark = pytest.mark.xdist_group("packaging")

_ROOT = Path(__file__).resolve().parents[2]


def _environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return {**kept, "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def _run(command: list[str], cwd: Path) -> str:
    done = subprocess.run(
        command, cwd=cwd, env=_environment(), capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source distribution, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    _run([sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), "."], _ROOT)
    return folder


def _fresh_venv(folder: Path, *requirement: str) -> Path:
    """The interpreter of a new environment with `requirement` installed in it."""
    _run([sys.executable, "-m", "venv", "--without-pip", str(folder)], _ROOT)
    python = folder / "bin" / "python"
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(_run([str(python), "-c", code], _ROOT).strip())
    libraries = dict.fromkeys(sysconfig.get_path(kind) for kind in ("purelib", "platlib"))
    (site / "borrowed.pth").write_text("\n".join(libraries) + "\n")
    pip = [sys.executable, "-m", "pip", "--python", str(python)]
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--ignore-installed"]
    _run([*pip, "install", *options, *requirement], _ROOT)
    return python


@pytest.fixture(scope="module")
def wheel_python(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    (wheel,) = built.glob("*.whl")
    return _fresh_venv(tmp_path_factory.mktemp("wheel") / "venv", str(wheel))


@pytest.fixture(scope="module")
def editable_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _fresh_venv(tmp_path_factory.mktemp("editable") / "venv", "--editable", str(_ROOT))


@pytest.fixture(params=["wheel", "editable"])
def python(request: pytest.FixtureRequest) -> Path:
    found: Path = request.getfixturevalue(f"{request.param}_python")
    return found


def _files_of(folder: Path) -> set[str]:
    """Every file that belongs in a package, relative to `folder`'s parent."""
    return {
        str(path.relative_to(folder.parent))
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_holds_the_two_packages_and_the_configuration(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = {n for n in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in n}
    expected = _files_of(_ROOT / "sparseft") | _files_of(_ROOT / "kernels" / "sparseft_kernels")
    expected |= {f"sparseft/{name}" for name in _files_of(_ROOT / "conf")}
    assert names == expected
    assert {name.split("/")[0] for name in names} == {"sparseft", "sparseft_kernels"}


def test_the_wheel_names_its_extras_and_a_light_core(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        lines = archive.read(name).decode().splitlines()
    assert {"Provides-Extra: run", "Provides-Extra: gguf", "Provides-Extra: dev"} <= set(lines)
    core = {ln.split()[1] for ln in lines if ln.startswith("Requires-Dist:") and "extra" not in ln}
    names = {requirement.split(";")[0].rstrip("<>=.,0123456789") for requirement in core}
    assert names == {"torch", "numpy", "einops", "safetensors", "triton"}


def test_the_source_distribution_holds_no_tests_and_no_results(built: Path) -> None:
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as stream:
        tops = {name.split("/")[1] for name in stream.getnames() if "/" in name}
    assert {"sparseft", "kernels", "conf", "pyproject.toml", "README.md", "LICENSE"} <= tops
    assert tops.isdisjoint({"tests", "experiments", "docs", "runs"})


def test_the_modules_come_from_the_installation(
    wheel_python: Path, editable_python: Path, tmp_path: Path
) -> None:
    code = (
        "import json, sparseft, sparseft_kernels, sparseft.paths as p;"
        "print(json.dumps([sparseft.__file__, sparseft_kernels.__file__, str(p.conf_dir())]))"
    )
    for python, home in ((wheel_python, wheel_python.parents[1]), (editable_python, _ROOT)):
        files = [Path(name) for name in json.loads(_run([str(python), "-c", code], tmp_path))]
        assert [file.is_relative_to(home) for file in files] == [True] * 3, files


def test_a_run_finds_its_configuration_from_another_folder(python: Path, tmp_path: Path) -> None:
    command = [str(python), "-m", "sparseft.run", "+experiment=intent", "--cfg", "job"]
    shown = _run(command, tmp_path)
    assert "method:" in shown and "minilm" in shown
    assert list(tmp_path.iterdir()) == []  # showing a configuration writes nothing


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("run", "experiment: compliance, compliance_decoder, dst, intent"),
        ("predict", "sparseft.predict"),
        ("report", "sparseft.report"),
    ],
)
def test_each_command_explains_itself(python: Path, module: str, said: str, tmp_path: Path) -> None:
    assert said in _run([str(python), "-m", f"sparseft.{module}", "--help"], tmp_path)


def test_the_built_in_data_is_installed(python: Path, tmp_path: Path) -> None:
    code = (
        "from sparseft.config import DataConfig; from sparseft.data import load_data;"
        "print(len(load_data(DataConfig(name='intent'), seed=0).label_names))"
    )
    assert int(_run([str(python), "-c", code], tmp_path)) >= 24
