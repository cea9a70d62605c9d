"""Each need is checked before anything is changed, and its absence is named with a way out."""

import io
import tarfile
from pathlib import Path

import pytest

from .conftest import Run


def test_missing_packages_are_all_named_at_once(shell: Run) -> None:
    answer = shell("install_commands no-such-a:package-a sh:dash no-such-b:package-b", PACS_TESTBED_NO_APT="1")
    assert answer.returncode == 1
    assert "package-a package-b" in answer.stderr
    assert "dash" not in answer.stderr
    assert "apt-get install" in answer.stderr


def test_too_little_space_is_told_in_numbers(shell: Run, tmp_path: Path) -> None:
    answer = shell(f"require_space {tmp_path} 1000000 'for images'")
    assert answer.returncode == 1
    assert "1000000 GiB are needed for images" in answer.stderr


def test_an_address_in_use_is_named(shell: Run) -> None:
    answer = shell("""
        ip() { case "$*" in *address*) echo "7: eno1    inet 198.18.4.2/24 scope global eno1";; esac; }
        require_addresses
    """)
    assert answer.returncode == 1
    assert "eno1" in answer.stderr
    assert "198.18.4.2" in answer.stderr


def test_its_own_address_is_not_in_the_way(shell: Run) -> None:
    answer = shell("""
        ip() { case "$*" in *address*) echo "9: v-pacsnode    inet 198.18.0.1/24 scope global v-pacsnode";;
                            *) echo "198.18.0.0/24 dev v-pacsnode proto kernel scope link src 198.18.0.1";; esac; }
        require_addresses
    """)
    assert answer.returncode == 0, answer.stderr


def test_an_old_go_is_refused(shell: Run) -> None:
    answer = shell("go() { echo go1.19.8; }; require_build_tools coredns")
    assert answer.returncode == 1
    assert "Go 1.19.8 is too old" in answer.stderr


def test_a_go_that_fetches_its_successor_will_do(shell: Run) -> None:
    """From 1.21 on Go answers inside a module with the version that the module makes it fetch."""
    answer = shell(
        "go() { case $PWD in */build/coredns) echo go1.26.3 ;; *) echo go1.22.2 ;; esac; }; require_build_tools coredns"
    )
    assert answer.returncode == 0, answer.stderr


def test_a_go_that_may_not_fetch_is_refused_in_its_own_words(shell: Run) -> None:
    answer = shell(
        'go() { echo "go.mod requires go >= 1.26.0 (GOTOOLCHAIN=local)" >&2; return 1; }; require_build_tools coredns'
    )
    assert answer.returncode == 1
    assert "GOTOOLCHAIN=local" in answer.stderr
    assert "install Go 1.26.0 or later" in answer.stderr


def archive(path: Path, *members: str) -> Path:
    with tarfile.open(path, "w") as tar:
        for name in members:
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    return path


@pytest.mark.parametrize(
    ("members", "transport"),
    [(("manifest.json", "config.json"), "docker-archive"), (("oci-layout", "index.json"), "oci-archive"),
     (("oci-layout", "manifest.json"), "oci-archive")],
)  # fmt: skip
def test_the_kind_of_an_archive_is_seen(shell: Run, tmp_path: Path, members: tuple[str, ...], transport: str) -> None:
    path = archive(tmp_path / "image.tar", *members)
    assert shell(f"image_source {path}").stdout == f"{transport}:{path}\n"


def test_what_is_no_image_is_refused(shell: Run, tmp_path: Path) -> None:
    other = archive(tmp_path / "other.tar", "readme.txt")
    plain = tmp_path / "plain.txt"
    plain.write_text("no archive")
    for path, message in ((other, "neither a docker archive"), (plain, "no tar archive"),
                          (tmp_path / "absent", "there is no archive")):  # fmt: skip
        answer = shell(f"image_source {path}")
        assert answer.returncode == 1
        assert message in answer.stderr


def test_an_image_has_the_same_bytes_each_time(shell: Run, tmp_path: Path) -> None:
    answer = shell("""
        mkdir -p "$STATE/root"; echo program >"$STATE/root/pause"
        make_image "$STATE/a.tar" localhost/pause:1 "$STATE/root" '{"Entrypoint":["/pause"]}'
        touch -d tomorrow "$STATE/root/pause"
        make_image "$STATE/b.tar" localhost/pause:1 "$STATE/root" '{"Entrypoint":["/pause"]}'
        for f in a b; do mkdir "$STATE/$f"; tar -xf "$STATE/$f.tar" -C "$STATE/$f"; done
        diff -r "$STATE/a" "$STATE/b"
    """)
    assert answer.returncode == 0, answer.stdout + answer.stderr
