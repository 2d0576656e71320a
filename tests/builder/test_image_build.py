from __future__ import annotations

import contextlib
import functools
import http.client
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.bases import BaseUnavailable
from builder.compiling import BrokenCode
from builder.context import InvalidContext
from builder.oci.documents import Index
from builder.oci.exchange import write_archive
from builder.oci.layout import Layout
from builder.packing import CODE_PLACE, DEPENDENCIES_PLACE
from builder.platform_image import BUNDLE_ANNOTATION
from builder.platforms import host_platform
from builder.sbom import CYCLONEDX
from builder.wheelhouse import DependenciesFailed
from tests.builder.conftest import HANDLER, MakeFunction, MakeWheel
from tests.builder.image_place import PYTHON, Place, small_base
from tests.builder.registry.docker_registry import docker_registry, program


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "machine", small_base(tmp_path / "base"))


class TestReproducible:
    def test_two_folders_two_stores_and_an_hour_between_them(
        self, tmp_path: Path, make_function: MakeFunction, wheels: MakeWheel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        wheels("thing", requires=("other",))
        wheels("other")
        files = {
            "handler.py": HANDLER,
            "requirements.txt": "thing\n",
            "data/x.txt": "x",
            "lib/__init__.py": "",
            "lib/b.py": "B = {1, 2}\n",
        }
        digests = []
        for number, (folder, now) in enumerate((("here", 1_000_000.0), ("some/where/else", 1_003_600.0))):
            monkeypatch.setattr(time, "time", functools.partial(float, now))
            function = make_function(files if number == 0 else dict(reversed(files.items())), name=f"{folder}/hello")
            place = Place(tmp_path / f"machine-{number}", small_base(tmp_path / f"base-{number}"))
            built = place.build(function, image=f"name-{number}:1")
            digests.append((built.digest, [referrer.digest for referrer in place.layout.referrers(built)]))
        assert digests[0] == digests[1]

    def test_one_changed_line_is_one_new_layer(self, place: Place, make_function: MakeFunction, wheels: MakeWheel) -> None:
        wheels("thing")
        function = make_function({"handler.py": HANDLER, "requirements.txt": "thing\n"})
        before = place.manifest(place.build(function)).layers
        (function / "handler.py").write_text(HANDLER.replace("hello", "changed"))
        after = place.manifest(place.build(function)).layers
        assert [old == new for old, new in zip(before, after, strict=True)] == [True, True, True, False]
        assert [line for line in place.log.lines if " layer " in line] == [
            f"code layer {after[-1].digest}, {after[-1].size} bytes"
        ]
        assert not [line for line in place.log.lines if "resolving" in line or "Collecting" in line]

    def test_nothing_is_made_when_nothing_changed(self, place: Place, make_function: MakeFunction) -> None:
        function = make_function()
        first = place.build(function)
        assert place.build(function) == first
        assert not [line for line in place.log.lines if " layer " in line]

    def test_a_layer_that_was_lost_is_made_again(self, place: Place, make_function: MakeFunction) -> None:
        function = make_function()
        first = place.build(function)
        place.layout.discard(place.manifest(first).layers[-1].digest)
        assert place.build(function) == first
        assert place.layout.complete(first)

    def test_wheels_that_were_collected_are_missed_only_when_something_is_made_of_them(
        self, place: Place, make_function: MakeFunction, wheels: MakeWheel
    ) -> None:
        wheels("thing")
        function = make_function({"handler.py": HANDLER, "requirements.txt": "thing\n"})
        first = place.build(function)
        for wheel in place.store.wheels.glob("*.whl"):
            wheel.unlink()
        assert place.build(function) == first
        assert not [line for line in place.log.lines if "resolving" in line]
        place.layout.discard(place.manifest(first).layers[2].digest)
        assert place.build(function) == first
        assert [line for line in place.log.lines if "resolving" in line]

    def test_the_source_date_dates_the_image_and_no_layer(self, place: Place, make_function: MakeFunction) -> None:
        function = make_function()
        first, second = place.build(function), place.build(function, created_s=1_700_000_000)
        assert place.config(first).created == "1970-01-01T00:00:00Z"
        assert place.config(second).created == "2023-11-14T22:13:20Z"
        assert place.manifest(first).layers == place.manifest(second).layers

    def test_zstd_layers_on_request(self, place: Place, make_function: MakeFunction) -> None:
        function = make_function()
        plain, packed = place.build(function), place.build(function, compression="zstd")
        assert [layer.media_type.rpartition("+")[2] for layer in place.manifest(packed).layers] == [
            "gzip",
            "zstd",
            "zstd",
            "zstd",
        ]
        assert place.config(plain).rootfs == place.config(packed).rootfs


class TestContent:
    def test_the_layers_are_a_venv_a_runtime_and_the_function(
        self, place: Place, make_function: MakeFunction, wheels: MakeWheel
    ) -> None:
        wheels("thing")
        built = place.build(make_function({"handler.py": HANDLER, "requirements.txt": "thing\n", ".git/x": "", "a.pyc": ""}))
        _, runtime, dependencies, code = place.manifest(built).layers
        assert "opt/pinnace/runtime/pinnace_runtime/__main__.py" in place.names(runtime)
        names = place.names(dependencies)
        assert f"{DEPENDENCIES_PLACE}/bin/python" in names
        packages = f"{DEPENDENCIES_PLACE}/lib/python{PYTHON}/site-packages"
        assert {f"{packages}/thing.py", f"{packages}/thing-1.0.dist-info/METADATA"} <= set(names)
        assert f"{packages}/__pycache__/thing.{sys.implementation.cache_tag}.pyc" in names
        assert [name for name in place.names(code) if not name.startswith("home/app/function/__pycache__/")] == [
            "home",
            CODE_PLACE,
            f"{CODE_PLACE}/function",
            f"{CODE_PLACE}/function/__pycache__",
            f"{CODE_PLACE}/function/handler.py",
            f"{CODE_PLACE}/function/requirements.txt",
        ]

    def test_the_configuration_starts_the_function(self, place: Place, make_function: MakeFunction) -> None:
        config = place.config(place.build(make_function(), labels={"org.opencontainers.image.revision": "abc", "x": "y"}))
        run = config.config
        assert run is not None
        assert run.cmd == (
            "/opt/pinnace/dependencies/bin/python",
            "-I",
            "/opt/pinnace/runtime/pinnace_runtime/__main__.py",
            "python3-http",
        )
        assert (run.user, run.working_dir, run.stop_signal) == ("12000:12000", "/home/app", "SIGTERM")
        labels = {"dev.pinnace.template": "python3-http", "org.opencontainers.image.revision": "abc", "x": "y"}
        assert run.labels == labels
        assert len(config.rootfs.diff_ids) == 4
        assert len(config.history or ()) == 4  # the base has none, and who builds on this wants one for each layer

    def test_annotations_say_where_it_comes_from(self, place: Place, make_function: MakeFunction) -> None:
        built = place.build(make_function(), labels={"org.opencontainers.image.revision": "abc"})
        annotations = place.manifest(built).annotations or {}
        assert annotations["org.opencontainers.image.revision"] == "abc"
        assert annotations["org.opencontainers.image.base.digest"].startswith("sha256:")
        assert json.loads(annotations[BUNDLE_ANNOTATION])["python"] == PYTHON

    def test_the_bill_lists_the_packages(self, place: Place, make_function: MakeFunction, wheels: MakeWheel) -> None:
        wheels("thing", "2.5")
        built = place.build(make_function({"handler.py": HANDLER, "requirements.txt": "thing\n"}))
        (referrer,) = place.layout.referrers(built)
        manifest = place.manifest(referrer)
        assert (manifest.artifact_type, manifest.subject) == (CYCLONEDX, built.bare())
        bill = json.loads(place.layout.read(manifest.layers[0]))
        assert [component["name"] for component in bill["components"]] == ["base", "thing"]
        assert bill["components"][1]["purl"] == "pkg:pypi/thing@2.5"
        assert bill["metadata"]["component"]["version"] == built.digest

    def test_no_bill_where_none_is_wanted(self, place: Place, make_function: MakeFunction) -> None:
        assert place.layout.referrers(place.build(make_function(), sbom=False)) == ()

    def test_a_base_with_another_python_gets_no_compiled_files(self, tmp_path: Path, make_function: MakeFunction) -> None:
        place = Place(tmp_path / "machine", small_base(tmp_path / "other", python="3.19"))
        built = place.build(make_function())
        assert not [name for layer in place.manifest(built).layers for name in place.names(layer) if name.endswith(".pyc")]
        assert any("the base image has Python 3.19 and this builder" in line for line in place.log.lines)

    def test_build_arguments(self, place: Place, make_function: MakeFunction, monkeypatch: pytest.MonkeyPatch) -> None:
        arguments = {"ADDITIONAL_PACKAGE": "gcc", "GO111MODULE": "off", "PYTHON": "3.13"}
        place.build(make_function(), build_args=arguments)
        warnings = [line for line in place.log.lines if line.startswith("warning: ")]
        assert warnings == [
            "warning: system packages are not installed: use a base image that has them, with gcc",
            "warning: build argument GO111MODULE has no effect here",
        ]
        place.base = ""
        with pytest.raises(BaseUnavailable, match=r"base image docker.io/library/python:3.13-slim for linux/.* is not here"):
            place.build(make_function(), build_args=arguments, offline=True)
        with pytest.raises(InvalidContext, match=r"write a version such as 3.13"):
            place.build(make_function(), build_args={"PYTHON": "latest"}, offline=True)

    def test_a_handler_that_does_not_compile_is_told(self, place: Place, make_function: MakeFunction) -> None:
        with pytest.raises(BrokenCode, match=r"function/handler.py line 1: SyntaxError"):
            place.build(make_function({"handler.py": "def handle(:\n"}))


class TestOtherLanguages:
    def test_a_program_of_ones_own_has_no_layers_but_its_code(self, place: Place, make_function: MakeFunction) -> None:
        function = make_function({"handler": "#!/bin/sh\n"})
        (function / "handler").chmod(0o755)
        built = place.build(function, language="binary")
        assert [(layer.annotations or {}).get("dev.pinnace.layer") for layer in place.manifest(built).layers] == [None, "code"]
        run = place.config(built).config
        assert run is not None
        assert run.cmd is not None
        assert run.cmd[:2] == ("/bin/sh", "-c")
        assert {"PORT=8080", "fprocess=./handler"} <= set(run.env or ())

    @pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not here (apt-get install nodejs npm)")
    def test_a_node_function_starts_with_the_bases_node(self, tmp_path: Path, make_function: MakeFunction) -> None:
        place = Place(tmp_path / "machine", small_base(tmp_path / "node", "amd64", "arm64", program="usr/local/bin/node"))
        function = make_function({"handler.js": "module.exports = async () => 'hi'\n"})
        built = place.build(function, language="node", platforms=("linux/amd64", "linux/arm64"))
        image = place.layout.document(built, Index).manifests[0]
        run = place.config(image).config
        assert run is not None
        assert run.cmd == ("/usr/local/bin/node", "/opt/pinnace/runtime/pinnace_runtime/main.js")
        kinds = [(layer.annotations or {}).get("dev.pinnace.layer") for layer in place.manifest(image).layers]
        assert kinds == [None, "runtime", "dependencies", "code"]

    def test_a_base_without_node_is_told(self, place: Place, make_function: MakeFunction) -> None:
        with pytest.raises(InvalidContext, match=r"has no Node.js: none of usr/bin, usr/local/bin has a node"):
            place.build(make_function({"handler.js": ""}), language="node")


class TestPlatforms:
    def test_wheels_are_chosen_for_each_platform(self, tmp_path: Path, make_function: MakeFunction, wheels: MakeWheel) -> None:
        place = Place(tmp_path / "machine", small_base(tmp_path / "both", "amd64", "arm64"))
        abi = f"cp{PYTHON.replace('.', '')}"
        for machine in ("x86_64", "aarch64"):
            wheels("native", tag=f"{abi}-{abi}-manylinux_2_28_{machine}")
            wheels("native", "2.0", tag=f"{abi}-{abi}-manylinux_2_39_{machine}")  # newer than the base's glibc
        for machine in ("x86", "arm"):
            wheels(f"only_{machine}")
        requirements = 'native\nonly_x86; platform_machine == "x86_64"\nonly_arm; platform_machine == "aarch64"\n'
        function = make_function({"handler.py": HANDLER, "requirements.txt": requirements})
        built = place.build(function, platforms=("linux/amd64", "linux/arm64"))
        images = place.layout.document(built, Index).manifests
        assert [image.platform.architecture for image in images if image.platform] == ["amd64", "arm64"]
        for image, own, other in zip(images, ("only_x86", "only_arm"), ("only_arm", "only_x86"), strict=True):
            names = place.names(place.manifest(image).layers[2])
            packages = f"{DEPENDENCIES_PLACE}/lib/python{PYTHON}/site-packages"
            assert {f"{packages}/native-1.0.dist-info/METADATA", f"{packages}/{own}.py"} <= set(names)
            assert f"{packages}/{other}.py" not in names
            assert len(place.layout.referrers(image)) == 1

    def test_a_package_without_a_wheel_is_named(self, tmp_path: Path, make_function: MakeFunction, wheels: MakeWheel) -> None:
        wheels("native", tag="cp311-cp311-manylinux_2_28_x86_64")
        (tmp_path / "index" / "native-1.0.tar.gz").write_bytes(b"a source distribution")
        place = Place(tmp_path / "machine", small_base(tmp_path / "both", "arm64"))
        function = make_function({"handler.py": HANDLER, "requirements.txt": "native\n"})
        fits = rf"\(wheels for Python {PYTHON} on linux/arm64 with glibc 2.36; source distributions are not built\)"
        with pytest.raises(DependenciesFailed, match=f"No matching distribution found for native {fits}"):
            place.build(function, platforms=("linux/arm64",))

    def test_a_base_that_is_not_for_the_platform_is_told(self, place: Place, make_function: MakeFunction) -> None:
        other = "arm64" if host_platform().architecture == "amd64" else "amd64"
        with pytest.raises(Exception, match=f"is not there for linux/{other}"):
            place.build(make_function(), platforms=(f"linux/{other}",))


class TestBase:
    def test_a_base_from_a_registry_is_pulled_once(self, tmp_path: Path, make_function: MakeFunction) -> None:
        from builder.oci.exchange import read_image
        from builder.registry.reference import parse_reference
        from builder.registry.transfer import connected, push_image

        function = make_function()
        layout = Layout(tmp_path / "from")
        image = read_image(Path(small_base(tmp_path / "base").removeprefix("oci:")), "", layout)
        with docker_registry(tmp_path / "registry") as host:
            name = f"{host}/bases/python:1"
            with connected(parse_reference(name)) as registry:
                push_image(layout, image, parse_reference(name), registry)
            place = Place(tmp_path / "machine", name)
            built = place.build(function)
            assert any(line.startswith("pulling the base image") for line in place.log.lines)
            assert (place.manifest(built).annotations or {})["org.opencontainers.image.base.name"] == name
            place.build(function, pull=True)
            assert any(line.startswith("pulling the base image") for line in place.log.lines)
        assert place.build(function) == built  # the registry is gone: what is kept is enough
        with pytest.raises(BaseUnavailable, match=f"the base image {name} cannot be pulled: .*{host} cannot be reached"):
            place.build(function, pull=True)
        with pytest.raises(BaseUnavailable, match="is not here, and this builder is offline"):
            place.build(function, pull=True, offline=True)

    def test_a_base_from_an_archive(self, tmp_path: Path, make_function: MakeFunction, place: Place) -> None:
        layout = Layout(Path(place.base.removeprefix("oci:")))
        write_archive(layout, layout.names(), tmp_path / "base.tar")
        other = Place(tmp_path / "other", f"oci-archive:{tmp_path / 'base.tar'}:base")
        assert other.build(make_function()).digest == place.build(make_function()).digest


class TestAccepted:
    """By tools that are not ours."""

    @pytest.fixture
    def built(self, tmp_path: Path, base_image: str, make_function: MakeFunction, wheels: MakeWheel) -> Place:
        wheels("thing", "4.2")
        place = Place(tmp_path / "machine", base_image)
        body = "import thing\n\ndef handle(event, context):\n    return f'thing {thing.VERSION} ' + event.body.decode()\n"
        place.build(make_function({"handler.py": body, "requirements.txt": "thing\n"}))
        return place

    def test_skopeo_inspects_and_copies(self, built: Place, tmp_path: Path) -> None:
        skopeo = program("skopeo")
        image = built.layout.names()["hello:1"]
        source = f"oci:{built.layout.root}:hello:1"
        said = json.loads(subprocess.run([skopeo, "inspect", source], capture_output=True, check=True).stdout)
        assert said["Digest"] == image.digest
        assert said["Labels"]["dev.pinnace.template"] == "python3-http"
        subprocess.run([skopeo, "copy", "-q", source, f"docker-archive:{tmp_path / 'x.tar'}:hello:1"], check=True)
        write_archive(built.layout, {"hello:1": image}, tmp_path / "oci.tar")
        subprocess.run(
            [skopeo, "copy", "-q", f"oci-archive:{tmp_path / 'oci.tar'}:hello:1", f"oci:{tmp_path / 'copy'}:x"], check=True
        )
        assert Layout(tmp_path / "copy").names()["x"].digest == image.digest

    def test_the_function_answers_in_a_container(self, built: Place, tmp_path: Path) -> None:
        umoci = program("umoci")
        runc = program("runc")
        bundle = tmp_path / "bundle"
        command = [umoci, "unpack", "--image", f"{built.layout.root}:hello:1", str(bundle)]
        subprocess.run(command, check=True, capture_output=True)
        with container(runc, bundle) as port:
            assert post(port, b"and you") == (200, b"thing 4.2 and you")

    def test_podman_runs_it(self, built: Place, tmp_path: Path) -> None:
        if shutil.which("podman") is None:
            pytest.skip("podman is not here (apt-get install podman); runc runs the same image in the test before")
        run = tempfile.mkdtemp(prefix="podman-")  # its path may have fifty characters
        own = ["--root", str(tmp_path / "podman"), "--runroot", run, "--cgroup-manager", "cgroupfs"]
        source = f"oci:{built.layout.root}:hello:1"
        limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]  # a sandbox may allow no higher ones
        command = ["podman", *own, "--runtime", program("runc"), "run", "--rm", "--network=none", *limits, source]
        try:
            said = subprocess.run(
                [*command, "python", "-c", "import thing; print(thing.VERSION)"], capture_output=True, text=True
            )
            assert said.stdout == "4.2\n", said.stderr
        finally:
            subprocess.run(["podman", *own, "system", "reset", "--force"], capture_output=True, check=False)
            shutil.rmtree(run, ignore_errors=True)


@contextlib.contextmanager
def container(runc: str, bundle: Path) -> Iterator[int]:
    """Run the unpacked image on this machine's network; yields the port that its function listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = json.loads((bundle / "config.json").read_text())
    config["process"]["terminal"] = False
    config["process"]["env"].append(f"PORT={port}")
    config["linux"]["namespaces"] = [space for space in config["linux"]["namespaces"] if space["type"] != "network"]
    (bundle / "config.json").write_text(json.dumps(config))
    name = f"pinnace-test-{port}"
    process = subprocess.Popen([runc, "run", "--bundle", bundle, name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout is not None
    try:
        deadline = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if process.poll() is not None:
                said = process.stdout.read().decode(errors="replace")
                pytest.skip(f"runc cannot run containers on this machine: {said.strip()[-300:]}")
            assert time.monotonic() < deadline, "the container does not listen"
            time.sleep(0.05)
        yield port
    finally:
        subprocess.run([runc, "kill", name, "KILL"], capture_output=True, check=False)
        process.wait(10)
        process.stdout.close()
        subprocess.run([runc, "delete", "-f", name], capture_output=True, check=False)


def post(port: int, body: bytes) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("POST", "/", body)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()
