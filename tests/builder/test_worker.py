from __future__ import annotations

import errno
import io
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgspec
import pytest

from builder import worker
from builder.build_secrets import BuildSecrets, write_secrets
from builder.bundle_build import BundleBuild
from builder.context import BuildConfig, write_context
from builder.events import BuildEvent
from builder.image_store import ImageStore
from builder.job import ImageJob, Job
from builder.keys import BuilderKey
from builder.platforms import host_platform
from builder.registry.errors import NotInRegistry
from builder.registry.reference import parse_reference
from builder.registry.transfer import connected
from builder.sealing import seal
from builder.store import BundleStore
from builder.templates import TEMPLATES_FOLDER, Templates
from orchestration.bundle import UnknownBundle
from tests.builder.image_place import small_base
from tests.builder.registry.docker_registry import docker_registry
from tests.builder.tars import tar_of

MakeFunction = Callable[..., Path]
MakeTar = Callable[..., Path]


def events_of(store: BundleStore, tar: Path) -> list[BuildEvent]:
    out = io.BytesIO()
    job = Job(
        context=str(tar),
        root=str(store.root),
        quota_bytes=store.quota_bytes,
        templates=str(TEMPLATES_FOLDER),
        offline=True,
        in_use=[],
    )
    worker.run(job, out)
    return [msgspec.json.decode(line, type=BuildEvent) for line in out.getvalue().splitlines()]


def test_a_build_ends_with_its_success(store: BundleStore, make_function: MakeFunction, context_of: MakeTar) -> None:
    events = events_of(store, context_of(make_function()))
    assert [event.is_final for event in events] == [False] * (len(events) - 1) + [True]
    assert {event.image for event in events} == {"hello:latest"}
    assert events[-2].log == [f"bundle {store.resolve('hello').digest}"]


def test_what_the_user_did_wrong_is_the_error(store: BundleStore, make_function: MakeFunction, context_of: MakeTar) -> None:
    events = events_of(store, context_of(make_function({"handler.py": "x = 1", "requirements.txt": "./local\n"})))
    assert events[-1].status == "failed"
    assert events[-1].error.startswith("requirements.txt line 1: './local' is a path; ")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "the gateway's disk is full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "the gateway's disk is full"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), "the build could not use the disk: "),
    ],
)
def test_a_disk_that_cannot_be_used_is_a_failure(
    store: BundleStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, said: str
) -> None:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(BundleBuild, "run", fails)
    (tmp_path / "tar").write_bytes(tar_of().getvalue())
    last = events_of(store, tmp_path / "tar")[-1]
    assert last.status == "failed"
    assert last.error.startswith(said)


def test_a_fault_of_ours_is_not_hidden(store: BundleStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise KeyError("bug")

    monkeypatch.setattr(BundleBuild, "run", fails)
    (tmp_path / "tar").write_bytes(tar_of().getvalue())
    with pytest.raises(KeyError):
        events_of(store, tmp_path / "tar")


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry."""
    with docker_registry(tmp_path_factory.mktemp("registry")) as host:
        yield host


class TestImages:
    @pytest.fixture
    def do(self, store: BundleStore, tmp_path: Path, host: str, make_function: MakeFunction) -> Callable[..., list[BuildEvent]]:
        base = small_base(tmp_path / "base", "amd64", "arm64")

        def run(
            image: str = "",
            *,
            only: bool = False,
            registries: tuple[str, ...] = ("*",),
            platforms: tuple[str, ...] = (),
            skip_push: bool = False,
            pull: str = "",
            sealed: bytes | None = None,
        ) -> list[BuildEvent]:
            tar = tmp_path / "context.tar"
            config = BuildConfig(image=image or "x", platforms=platforms, skip_push=skip_push)
            with tar.open("wb") as file:
                write_context(file, make_function(), Templates().find("python3-http"), config, sealed)
            job = Job(
                context=str(tar),
                root=str(store.root),
                quota_bytes=store.quota_bytes,
                templates=str(TEMPLATES_FOLDER),
                offline=True,
                in_use=[],
                images=ImageJob(root=str(store.root / "containers"), registries=list(registries), base=base, only=only),
                pull=pull,
            )
            out = io.BytesIO()
            worker.run(job, out)
            return [msgspec.json.decode(line, type=BuildEvent) for line in out.getvalue().splitlines()]

        return run

    def test_a_name_with_a_registry_is_a_bundle_and_a_pushed_image(
        self, do: Callable[..., list[BuildEvent]], store: BundleStore, host: str
    ) -> None:
        events = do(f"{host}/team/hello:1")
        assert events[-1].status == "success", events[-1]
        assert store.resolve(f"{host}/team/hello:1")
        log = [line for event in events for line in event.log]
        assert any(line.startswith(f"pushed {host}/team/hello@sha256:") for line in log)
        layout = ImageStore(store.root / "containers").layout
        assert layout.names() == {}  # the registry keeps it
        with connected(parse_reference(f"{host}/team/hello:1")) as registry:
            image, _ = registry.manifest("team/hello", "1")
            assert len(registry.referrers("team/hello", image.digest)) == 1

    def test_a_name_without_one_is_a_bundle(self, do: Callable[..., list[BuildEvent]], store: BundleStore) -> None:
        events = do("hello:1")
        assert events[-1].status == "success"
        assert not (store.root / "containers").exists()

    def test_registries_that_are_not_listed_get_nothing(
        self, do: Callable[..., list[BuildEvent]], store: BundleStore, host: str
    ) -> None:
        events = do(f"{host}/secret/hello:1", registries=(f"{host}/team",))
        assert events[-1].status == "success"
        log = [line for event in events for line in event.log]
        assert f"not pushed: this builder does not push to where {host}/secret/hello:1 says" in log[-1]
        with connected(parse_reference(f"{host}/secret/hello:1")) as registry, pytest.raises(NotInRegistry):
            registry.manifest("secret/hello", "1")
        events = do(f"{host}/secret/hello:1", registries=(f"{host}/team",), only=True)
        assert (
            events[-1].error
            == f"this builder does not push to where {host}/secret/hello:1 says; it pushes to {host}/team (--registries)"
        )

    def test_images_for_several_platforms(self, do: Callable[..., list[BuildEvent]], host: str) -> None:
        events = do(f"{host}/team/both:1", platforms=("linux/amd64", "linux/arm64"), only=True)
        assert events[-1].status == "success", events[-1]
        with connected(parse_reference(f"{host}/team/both:1")) as registry:
            assert registry.manifest("team/both", "1")[0].is_index

    def test_another_platform_alone_makes_no_bundle(
        self, do: Callable[..., list[BuildEvent]], store: BundleStore, host: str
    ) -> None:
        other = "linux/arm64" if str(host_platform()) == "linux/amd64" else "linux/amd64"
        assert do(f"{host}/team/other:1", platforms=(other,))[-1].status == "success"
        with pytest.raises(UnknownBundle):
            store.resolve(f"{host}/team/other:1")

    def test_a_builder_of_images_wants_a_place_for_them(self, do: Callable[..., list[BuildEvent]]) -> None:
        events = do("hello:1", only=True)
        assert events[-1].error == "the image name hello:1 says no registry to push to; this builder pushes to *"
        assert do("hello:1", only=True, skip_push=True)[-1].status == "success"

    def test_what_cannot_be_pushed_is_a_failure(self, do: Callable[..., list[BuildEvent]], store: BundleStore) -> None:
        events = do("127.0.0.1:1/hello:1")
        assert events[-1].status == "failed"
        assert events[-1].error.startswith("the registry 127.0.0.1:1 cannot be reached: ")
        assert ImageStore(store.root / "containers").layout.names() == {}

    def test_an_image_becomes_a_bundle(self, do: Callable[..., list[BuildEvent]], store: BundleStore, host: str) -> None:
        do(f"{host}/team/pulled:1", only=True)
        for _ in range(2):
            assert do(pull=f"{host}/team/pulled:1")[-1].status == "success"
        assert store.pulled(f"{host}/team/pulled:1") is not None
        assert store.resolve(f"{host}/team/pulled:1").template == "python3-http"
        assert do(pull=f"{host}/team/none:1")[-1].error.startswith(f"the registry {host} does not have it: ")

    def test_sealed_secrets_are_opened_and_unknown_ones_told(
        self, do: Callable[..., list[BuildEvent]], store: BundleStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folders: list[Path] = []

        def write(secrets: Mapping[str, bytes], folder: Path) -> BuildSecrets:
            folders.append(folder)
            return write_secrets(secrets, folder)

        monkeypatch.setattr(worker, "write_secrets", write)
        sealed = seal({"token": b"x"}, BuilderKey(store.root).public())
        events = do("hello:1", sealed=sealed)
        assert events[-1].status == "success", events[-1]
        assert any("the build secret token means nothing here" in line for event in events for line in event.log)
        (folder,) = folders
        assert folder.is_relative_to(store.root / "incoming")  # where what a killed build leaves is swept
        assert not folder.exists()
        assert "cannot be opened" in do("hello:1", sealed=sealed.replace(b"token: ", b"token: AA"))[-1].error
