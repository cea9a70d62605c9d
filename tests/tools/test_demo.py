"""The demo on a cluster of one's own: what it asks for, what it applies, and what it leaves when it is cleaned."""

import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
#: Answers as kubectl would: objects of the file `there` exist, those of the file `marked` were made by the demo.
KUBECTL = """#!/bin/bash
echo "kubectl $*" >>"$RECORD"
case "$*" in
  "config view"*server*) echo https://192.0.2.20:6443 ;;
  "get crd "*) echo crd ;;
  get*annotations.demo*) grep -qx -- "$2" "$STAGE/marked" && echo yes ;;
  get*"-o name") grep -x -- "$2" "$STAGE/there" ;;
  get*conditions*) echo "Accepted=False SourceNotAllowed: 192.0.2.30/32 is outside" ;;
  *wait*dicompeer/ct1*) exit 1 ;;
esac
exit 0
"""
RECORDER = '#!/bin/bash\necho "${0##*/} $*" >>"$RECORD"\n'
VARIABLES = {
    "PACS_REGISTRY": "registry.example/pacs",
    "BAO_ADDR": "https://192.0.2.10:8200",
    "BAO_TOKEN": ROOT.name,
    "PACS_VAULT_CIDRS": "192.0.2.10/32",
    "PACS_API_CIDRS": "192.0.2.20/32",
    "PACS_GATE_ADDRESS": "192.0.2.40",
    "PACS_MODALITY_CIDR": "192.0.2.30/32",
}
NEEDED = ("bash", "env", "dirname", "readlink", "mkdir", "sed", "base64", "sort", "paste", "grep", "cat", "rm", "date")


class Stage:
    """A copy of the demo, beside programs that only write down how they are called."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.programs, self.record = folder, folder / "programs", folder / "record"
        for name in ("demo", "examples", "deploy"):
            shutil.copytree(ROOT / name, folder / name)
        self.programs.mkdir()
        for name in NEEDED:
            (self.programs / name).symlink_to(shutil.which(name) or name)
        for name in ("helm", "bao", "openssl"):
            self.program(name, RECORDER)
        self.program("kubectl", KUBECTL)
        (folder / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\n")
        self.set()

    def program(self, name: str, text: str) -> None:
        """Put a program on the PATH."""
        (self.programs / name).write_text(text)
        (self.programs / name).chmod(0o755)

    def set(self, there: str = "", marked: str = "") -> None:
        """Say which objects exist and which of them the demo made."""
        (self.folder / "there").write_text(there.replace(" ", "\n") + "\n")
        (self.folder / "marked").write_text(marked.replace(" ", "\n") + "\n")
        self.record.write_text("")

    def run(self, *steps: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run the demo as for a cluster of one's own."""
        own = {"PATH": str(self.programs), "RECORD": str(self.record), "STAGE": str(self.folder)}
        own["KUBECONFIG"] = str(self.folder / "kubeconfig")
        command: list[str | Path] = [self.folder / "demo" / "demo", *steps]
        return subprocess.run(
            command, env=own | variables, capture_output=True, text=True, check=False, timeout=60, cwd=self.folder
        )

    @property
    def calls(self) -> list[str]:
        """Return the commands that were run."""
        return self.record.read_text().splitlines()


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


@pytest.fixture
def variables(stage: Stage) -> dict[str, str]:
    return VARIABLES | {"BAO_CACERT": str(stage.folder / "ca.pem")}


def test_all_that_is_missing_is_named_at_once_before_anything_is_done(stage: Stage) -> None:
    for name in ("helm", "bao", "openssl", "kubectl"):
        (stage.programs / name).unlink()
    done = stage.run("all")
    assert done.returncode == 1
    for name in (*VARIABLES, "BAO_CACERT", "program kubectl", "program helm", "program openssl", "bao (or vault)"):
        assert name in done.stderr
    assert stage.calls == []


def test_a_step_asks_only_for_what_it_needs(stage: Stage) -> None:
    message = stage.run("archive").stderr
    assert "PACS_MODALITY_CIDR" in message
    assert "PACS_REGISTRY" not in message
    assert "PACS_API_CIDRS" not in message


def test_the_command_line_of_vault_and_its_variables_will_do(stage: Stage, variables: dict[str, str]) -> None:
    (stage.programs / "bao").rename(stage.programs / "vault")
    own = {name.replace("BAO_", "VAULT_"): value for name, value in variables.items()}
    done = stage.run("vault", **own)
    assert "missing" not in done.stderr
    assert any("apply -f deploy/vault/reviewer.yaml" in call for call in stage.calls)


def test_an_unreadable_authority_is_named(stage: Stage, variables: dict[str, str]) -> None:
    done = stage.run("operator", **(variables | {"BAO_CACERT": "/nowhere/ca.pem"}))
    assert done.returncode == 1
    assert "/nowhere/ca.pem cannot be read" in done.stderr


def test_the_archive_allows_the_network_that_the_device_is_in(stage: Stage, variables: dict[str, str]) -> None:
    stage.run("archive", **variables)
    work = stage.folder / "build" / "demo"
    archive = yaml.safe_load((work / "radiology.yaml").read_text())
    (_, peer) = yaml.safe_load_all((work / "ct1.yaml").read_text())
    assert archive["spec"]["peers"]["allowedCIDRs"] == peer["spec"]["sourceCIDRs"] == ["192.0.2.30/32"]
    legacy = yaml.safe_load((work / "us7.yaml").read_text())
    assert legacy["spec"]["sourceCIDRs"] == ["192.0.2.30/32"]
    assert not (work / "ws1.yaml").exists(), "nobody said where it is sent to"


@pytest.mark.parametrize(
    ("address", "allowed"),
    [("192.0.2.30", ["192.0.2.30/32"]), ("192.0.2.31", ["192.0.2.30/32", "192.0.2.31/32"])],
)
def test_the_workstation_is_sent_to_at_the_address_that_was_given(
    stage: Stage, variables: dict[str, str], address: str, allowed: list[str]
) -> None:
    stage.run("archive", **variables, PACS_WORKSTATION_ADDRESS=address)
    work = stage.folder / "build" / "demo"
    assert yaml.safe_load((work / "radiology.yaml").read_text())["spec"]["peers"]["allowedCIDRs"] == allowed
    spec = yaml.safe_load((work / "ws1.yaml").read_text())["spec"]
    assert spec["outbound"] == {"address": address, "port": 2762}
    assert spec["moveDestinations"] == ["ws1"]


def test_a_new_exception_lasts_a_quarter(stage: Stage, variables: dict[str, str]) -> None:
    stage.run("archive", **variables)
    drawn = legacy_of(stage)["expires"]
    days = datetime.strptime(drawn, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC) - datetime.now(UTC)
    assert 89 <= days.days <= 91


@pytest.mark.parametrize(("known", "kept"), [("2199-01-31T18:00:00Z", True), ("2020-01-31T18:00:00Z", False)])
def test_an_exceptions_end_stays_until_it_is_over(
    stage: Stage, variables: dict[str, str], known: str, kept: bool
) -> None:
    """Another end needs another reason."""
    answers = f"*legacy.expires*) echo {known} ;;\n  *legacy.reason*) echo said before ;;\n  *wait*"
    stage.program("kubectl", KUBECTL.replace("*wait*", answers))
    stage.run("archive", **variables)
    legacy = legacy_of(stage)
    assert (legacy["expires"] == known) is kept
    assert (legacy["reason"] == "said before") is kept


def legacy_of(stage: Stage) -> dict[str, str]:
    document = yaml.safe_load((stage.folder / "build" / "demo" / "us7.yaml").read_text())
    legacy: dict[str, str] = document["spec"]["legacy"]
    return legacy


def test_a_refused_device_is_told_with_the_reason(stage: Stage, variables: dict[str, str]) -> None:
    done = stage.run("archive", **variables)
    assert done.returncode == 1
    assert "Accepted=False SourceNotAllowed" in done.stderr
    assert "did not accept the device" in done.stderr


def test_an_archive_that_is_not_the_demos_is_not_overwritten(stage: Stage, variables: dict[str, str]) -> None:
    stage.set(there="pacsarchive/radiology")
    done = stage.run("archive", **variables)
    assert done.returncode == 1
    assert "the demo did not make" in done.stderr
    assert not [call for call in stage.calls if " apply " in call]


def test_what_was_there_before_is_not_marked_as_the_demos(stage: Stage, variables: dict[str, str]) -> None:
    stage.set(there="namespace/imaging")
    stage.run("archive", **variables)
    marked = [call.split()[3] for call in stage.calls if call.startswith("kubectl annotate")]
    assert marked == ["pacsarchive/radiology"]


def test_clean_removes_nothing_that_it_did_not_make_and_needs_no_variables(stage: Stage) -> None:
    stage.set(there="namespace/imaging namespace/pacs-operator-system pacsarchive/radiology")
    (stage.folder / "build").mkdir()
    done = stage.run("clean")
    assert done.returncode == 0, done.stderr
    changes = [call for call in stage.calls if " delete " in call or "uninstall" in call]
    assert changes == [
        "kubectl delete --ignore-not-found --timeout=120s --namespace imaging dicompeer ct1 us7 viewer1 ws1"
    ]
    assert not (stage.folder / "build").exists()
    assert "These stay" in done.stdout


def test_clean_removes_what_the_demo_made(stage: Stage) -> None:
    own = "namespace/imaging namespace/pacs-operator-system namespace/pacs-vault-reviewer pacsarchive/radiology"
    stage.set(there=own, marked=own)
    done = stage.run("clean")
    assert done.returncode == 0, done.stderr
    changes = [call for call in stage.calls if " delete " in call or "uninstall" in call]
    assert [change.split()[-1] for change in changes] == [
        *("ws1", "radiology", "--ignore-not-found", "pacs-vault-reviewer"),
        *("imaging", "pacs-operator-system", "pacs-vault-reviewer"),
    ]


def test_the_demo_does_not_run_on_a_wrong_word(stage: Stage) -> None:
    assert stage.run("destroy").returncode == 2
    assert stage.run("help").returncode == 0
    assert stage.calls == []
