"""How long container images take: cold, after a change of code, pushed; beside buildah with the template's own Dockerfile.

    python -m benchmarks.builder [--rounds 5] [--packages FILE]

Everything is on this machine: the base image is made from its own files, packages come from a folder that is filled once
(the only use of a network), the registry is Debian's docker-registry on loopback. Both builders get the same base, function
and wheels, in rounds that alternate. buildah builds the template's Dockerfile without the line that makes a user, for
which the base has no program; it keeps its cache of layers for the warm rounds, and has none in the cold ones. The goals are
a rebuild in 300 ms, with a push in 500 ms, warm at least 5 times faster than buildah, and cold never slower.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from builder.oci.archive import Entry, write_layer
from builder.oci.documents import Manifest, RunConfig
from builder.oci.layout import Layout
from builder.templates import TEMPLATES_FOLDER
from tests.builder.base_image import NAME, debian_python, image_of, libraries, make_base, merged
from tests.builder.registry.docker_registry import docker_registry

FAAS = Path(sys.executable).with_name("faas")
PACKAGES = ("requests", "httpx", "pydantic", "jinja2", "pyyaml", "redis", "sqlalchemy", "numpy", "pillow", "boto3")
BACKPORTS = ("async-timeout",)
"""What packages ask for besides where the base's Python is older than the one that downloads."""
HANDLER = "import requests, pydantic, numpy\n\ndef handle(event, context):\n    return 'round {number}'\n"
REBUILD_GOAL_S, PUBLISH_GOAL_S, WARM_GOAL = 0.3, 0.5, 5.0


def timed(action: Callable[[], object]) -> float:
    """Return how many seconds `action` took."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def run(*command: str | Path, environment: dict[str, str] | None = None, folder: Path | None = None) -> str:
    """Run a command that must succeed, in a folder; return what it printed."""
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder, check=False)
    assert done.returncode == 0, f"{command}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


class Bench:
    """The folder of one run: base, wheels, function."""

    def __init__(self, root: Path, packages: tuple[str, ...]) -> None:
        self.root = root
        self.function = root / "function"
        self.function.mkdir()
        (self.function / "requirements.txt").write_text("\n".join((*packages, "")))
        self.change(0)
        self.wheels = root / "wheels"
        requirements = self.function / "requirements.txt"
        run(
            sys.executable,
            "-m",
            "pip",
            "download",
            "-q",
            "--only-binary=:all:",
            "-d",
            self.wheels,
            "-r",
            requirements,
            *BACKPORTS,
        )
        self.base = root / "base"
        make_base(self.base)
        self._add_pip()

    def change(self, number: int) -> None:
        """One changed line in the handler."""
        (self.function / "handler.py").write_text(HANDLER.format(number=number))

    def _add_pip(self) -> None:
        """A layer with pip and a shell, which a Dockerfile needs and our builder does not."""
        layout = Layout(self.base)
        below = layout.document(layout.names()[NAME], Manifest)
        config = json.loads(layout.read(below.config))
        import pip

        source, place = Path(pip.__file__).parent, f"usr/lib/{debian_python().name}/pip"

        def entries() -> Iterator[Entry]:
            for path in source.rglob("*"):
                if path.is_file() and "__pycache__" not in path.parts:
                    yield Entry(f"{place}/{path.relative_to(source)}", path.read_bytes())
            programs = [Path("/bin/dash"), Path("/bin/ls"), Path("/bin/rm"), Path("/bin/cp")]
            for program in programs:
                yield Entry(f"usr/bin/{program.name}", program.read_bytes(), executable=True)
            yield Entry("usr/bin/sh", target="dash")
            yield Entry("usr/bin/python", target=debian_python().name)
            yield Entry("usr/bin/pip", f'#!/bin/sh\nexec {debian_python().name} -m pip "$@"\n'.encode(), executable=True)
            yield Entry("etc/pip.conf", b"[global]\nno-index = true\nfind-links = /wheels\nbreak-system-packages = true\n")
            had = {merged(library) for library in libraries([debian_python()])}
            for library in libraries(programs):
                if merged(library) not in had:
                    yield Entry(merged(library), library.read_bytes(), executable=True)

        layer = write_layer(layout, entries())
        blobs = [*below.layers, layer.blob]
        image = image_of(layout, blobs, [*config["rootfs"]["diff_ids"], layer.diff_id], RunConfig(env=("PATH=/usr/bin:/bin",)))
        layout.tag("bench", image)

    def faas(self, verb: str, image: str, store: Path) -> None:
        """Build or publish with our command, in a process of its own as a person does."""
        environment = {
            **os.environ,
            "PINNACE_IMAGES": str(store),
            "PINNACE_BASE_IMAGE": f"oci:{self.base}:bench",
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.wheels),
            "PIP_CONFIG_FILE": "/dev/null",
        }
        environment.pop("PIP_EXTRA_INDEX_URL", None)
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # installed packages have bytecode; compiling ours takes 40 ms
        run(FAAS, verb, self.function, "--lang", "python3-http", "--image", image, environment=environment)


class Buildah:
    """buildah with a storage of its own below `root`."""

    def __init__(self, root: Path, bench: Bench, driver: str) -> None:
        self._bench = bench
        self._root = root
        self._storage = ("--root", str(root / "storage"), "--runroot", str(root / "run"), "--storage-driver", driver)
        self._context = root / "context"
        self._context.mkdir(parents=True)
        template = TEMPLATES_FOLDER / "python3-http"
        lines = (template / "Dockerfile").read_text().splitlines()
        (self._context / "Dockerfile").write_text(
            "\n".join(line for line in lines if not line.startswith("RUN useradd")) + "\n"
        )
        shutil.copy(template / "template.yml", self._context)
        shutil.copytree(TEMPLATES_FOLDER / "_python", self._context / "_python", ignore=shutil.ignore_patterns("__pycache__"))
        name = self._do("pull", "-q", "oci:base:bench").strip().splitlines()[-1]
        self._do("tag", name, "docker.io/library/python:bench-slim")

    def build(self, *, cached: bool) -> None:
        """Build the function, with the layers of earlier builds or without."""
        shutil.copytree(self._bench.function, self._context / "function", dirs_exist_ok=True)
        flags = ["--layers"] if cached else ["--layers=false", "--no-cache"]
        volume = f"{self._bench.wheels}:/wheels:ro"
        arguments = ["--isolation", "chroot", "--pull-never", "--build-arg", "PYTHON=bench", "-v", volume, "-t", "bench"]
        self._do("bud", "-q", *flags, *arguments, str(self._context))

    def clear(self) -> None:
        """Remove its containers and images, and let go of its mount."""
        self._do("rm", "--all")
        self._do("rmi", "--all", "--force")
        subprocess.run(["umount", self._root / "storage" / "overlay"], capture_output=True, check=False)

    def _do(self, *arguments: str) -> str:
        return run("buildah", *self._storage, *arguments, folder=self._bench.root)  # not every path is a name to buildah


@contextlib.contextmanager
def buildah_here(root: Path, bench: Bench) -> Iterator[Buildah | None]:
    """buildah where it runs, with the overlay driver or else the slow one; None and a word about why where it does not."""
    reason = "it is not installed (apt-get install buildah)"
    if shutil.which("buildah"):
        for driver in ("overlay", "vfs"):
            try:
                built = Buildah(root / driver, bench, driver)
                built.build(cached=True)
            except AssertionError as error:
                reason = str(error).strip().splitlines()[-1]
                continue
            print(f"buildah runs here with the {driver} driver")
            try:
                yield built
            finally:
                built.clear()
            return
    print(f"buildah does not run here: {reason}")
    yield None


def main() -> None:
    """Run the rounds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cold-rounds", type=int, default=2)
    parser.add_argument("--packages", nargs="*", default=PACKAGES)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="bench-builder-", ignore_cleanup_errors=True) as folder,
        docker_registry(Path(folder) / "registry") as host,
    ):
        root = Path(folder)
        bench = Bench(root, tuple(options.packages))
        with buildah_here(root / "buildah", bench) as buildah:
            cold: dict[str, list[float]] = {"faas": [], "buildah": []}
            warm: dict[str, list[float]] = {"faas": [], "publish": [], "buildah": []}
            for number in range(options.cold_rounds):
                store = root / f"cold-{number}"
                cold["faas"].append(timed(lambda store=store: bench.faas("build", "bench:1", store)))  # type: ignore[misc]
                if buildah is not None:
                    cold["buildah"].append(timed(lambda: buildah.build(cached=False)))
            store = root / "cold-0"
            bench.faas("publish", f"{host}/bench:1", store)
            for number in range(1, options.rounds + 1):
                bench.change(number * 2)
                warm["faas"].append(timed(lambda: bench.faas("build", f"{host}/bench:1", store)))
                if buildah is not None:
                    warm["buildah"].append(timed(lambda: buildah.build(cached=True)))
                bench.change(number * 2 + 1)
                warm["publish"].append(timed(lambda: bench.faas("publish", f"{host}/bench:1", store)))
    rebuild, publish = statistics.median(warm["faas"]), statistics.median(warm["publish"])
    print("\n| what | faas | buildah | ratio |\n|---|---|---|---|")
    for what, ours, theirs in (
        ("cold, 10 packages", cold["faas"], cold["buildah"]),
        ("rebuild", warm["faas"], warm["buildah"]),
    ):
        told = (
            f"{statistics.median(theirs):.2f} s | {statistics.median(theirs) / statistics.median(ours):.1f}"
            if theirs
            else "- | -"
        )
        print(f"| {what} | {statistics.median(ours):.2f} s | {told} |")
    print(f"| rebuild and push | {publish:.2f} s | - | - |\n")
    goals = [
        (f"rebuild in {REBUILD_GOAL_S} s", rebuild <= REBUILD_GOAL_S),
        (f"rebuild and push in {PUBLISH_GOAL_S} s", publish <= PUBLISH_GOAL_S),
    ]
    if warm["buildah"]:
        goals.append((f"warm {WARM_GOAL:g} times faster", statistics.median(warm["buildah"]) >= WARM_GOAL * rebuild))
        goals.append(("cold not slower", statistics.median(cold["buildah"]) >= statistics.median(cold["faas"])))
    for goal, met in goals:
        print(f"{'met' if met else 'MISSED'}: {goal}")


if __name__ == "__main__":
    main()
